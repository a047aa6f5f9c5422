package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the Makefile: -ldflags "-X main.version=v1.2.3".
var version string

// newRoot returns the command line.
func newRoot() *cobra.Command {
	c := defaults()
	file := ""
	cmd := &cobra.Command{
		Use:   "sfcd",
		Short: "Run chains of network functions",
		Long: `sfcd runs chains of network functions on this host's interfaces: an API,
a store of what tenants want, and a data plane. sfcctl speaks to it.

What is not said by a flag comes from the configuration file, ` + defaultFile + `.

SIGTERM ends everything in order. SIGHUP replaces data plane and control by those
of the binary that is installed now, without losing a packet.`,
		Example: `  sfcd --config /etc/sfc/sfcd.yaml
  sudo sfcd --dev --data-dir /tmp/sfc`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, Version: versionText(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			settled, err := settle(cmd, &c, file)
			if err != nil {
				return err
			}
			return supervise(cmd.Context(), settled)
		},
	}
	c.flags(cmd.Flags())
	cmd.AddCommand(newMan())
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default "+defaultFile+" where it is there)")
	return cmd
}

// settle puts defaults, file and flags together; flags weigh most.
func settle(cmd *cobra.Command, flagged *config, file string) (*config, error) {
	c := defaults()
	if flagged.Dev {
		c.develop()
	}
	if file != "" || !flagged.Dev {
		if err := c.load(file); err != nil {
			return nil, err
		}
	}
	// What was said on the command line is said once more, over the rest.
	again := cobra.Command{}
	c.flags(again.Flags())
	var err error
	for _, name := range []string{"data-dir", "run-dir", "tls-cert", "tls-key", "user", "workers", "log-format", "log-level", "traces", "dev"} {
		if f := cmd.Flags().Lookup(name); f.Changed && err == nil {
			err = again.Flags().Set(name, f.Value.String())
		}
	}
	if err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("listen") {
		c.Listen = flagged.Listen
	}
	if cmd.Flags().Changed("interfaces") {
		c.Interfaces = flagged.Interfaces
	}
	if cmd.Flags().Changed("cores") {
		c.Cores = flagged.Cores
	}
	c.temporary = c.Dev && c.DataDir == temporaryDir()
	if c.Dev && cmd.Flags().Changed("data-dir") && !cmd.Flags().Changed("run-dir") {
		c.RunDir = filepath.Join(c.DataDir, "run")
	}
	if c.Dev && !cmd.Flags().Changed("listen") {
		c.Listen = []string{"unix://" + filepath.Join(c.RunDir, "sfcd.sock")}
	}
	return &c, c.validate()
}

// develop sets what --dev changes.
func (c *config) develop() {
	dir := temporaryDir()
	c.DataDir, c.RunDir = dir, filepath.Join(dir, "run")
}

// temporaryDir is where --dev keeps its data when nothing else is said.
func temporaryDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("sfcd-dev-%d", os.Getpid()))
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
