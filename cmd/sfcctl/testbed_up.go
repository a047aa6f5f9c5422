package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sfc/testbed/lab"
)

func newTestbedUp(e env) *cobra.Command {
	var opts lab.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "up {--chain FILE | --no-engine}",
		Short: "Bring a lab up: client, engine and server",
		Long: `Makes three network namespaces joined by veth pairs, starts the engine with the
chains in the middle one and returns when packets flow. All of it stays up, in a
background process, until "sfcctl testbed down".

The chains' ports are "in", where the client is, and "out", where the server is.
With --mode inline the engine is a bump in the wire: client and server are in one
subnet, and what no chain claims, ARP and neighbour discovery above all, goes to
the other side. With --mode routed it is a router: each host has a subnet of its
own and the engine for its gateway, whose kernel answers for it, tells chains
the next hops, and forwards what they do not claim. Chains that stand for
addresses of their own, such as the pool of nat44, need that; without --mode they
get it, all others inline.

With --no-engine there are the hosts and the links, and nothing between them: to
try the daemon on host engine.`,
		Example: `  sudo sfcctl testbed up --chain edge.yaml
  sudo sfcctl testbed up --chain nat.yaml --mode routed --workers 2
  sudo sfcctl testbed up --chain edge.yaml --name second
  sudo sfcctl testbed up --no-engine`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.Validate(); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			if os.Geteuid() != 0 {
				return lab.ErrNotRoot
			}
			opts.Dir = e.getenv(envRun)
			status, err := startLab(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(e.stdout, status)
			}
			return printUp(e.stdout, status)
		},
	}
	labFlags(cmd, &opts)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what came up as JSON")
	return cmd
}

// labFlags are what up and the process it starts have in common.
func labFlags(cmd *cobra.Command, opts *lab.Options) {
	f := cmd.Flags()
	f.StringArrayVar(&opts.Chains, "chain", nil, "chain file; give several to run several chains")
	f.BoolVar(&opts.NoEngine, "no-engine", false, "hosts and links only, for a daemon that you start on host engine")
	f.StringVar((*string)(&opts.Mode), "mode", "", "inline or routed (default: what the chains need)")
	f.IntVar(&opts.Workers, "workers", 1, "workers, each on a core of its own")
	f.DurationVar(&opts.RebalanceEvery, "rebalance-every", 0, "move flows from busy workers to idle ones so often; 0: never")
	f.StringVar(&opts.Records, "records", "", "write what functions export, such as records of flows, to this file, a JSON object a line")
	nameFlag(cmd, &opts.Name)
	modes := cobra.FixedCompletions([]string{string(lab.Inline), string(lab.Routed)}, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc("mode", modes); err != nil {
		panic(err) // the flag was defined above
	}
	if err := cmd.MarkFlagFilename("chain", "yaml", "yml"); err != nil {
		panic(err) // the flag was defined above
	}
}

// upReport is what the lab's process tells the one that started it.
type upReport struct {
	Status lab.Status
	Error  string
}

// startLab starts the lab's process and waits until it is up.
func startLab(ctx context.Context, opts lab.Options) (s lab.Status, err error) {
	args := []string{"testbed", "serve", "--name", opts.Name, "--mode", string(opts.Mode), "--workers", strconv.Itoa(opts.Workers),
		"--rebalance-every", opts.RebalanceEvery.String()}
	for _, file := range opts.Chains {
		if file, err = filepath.Abs(file); err != nil {
			return s, err
		}
		args = append(args, "--chain", file)
	}
	if opts.NoEngine {
		args = append(args, "--no-engine")
	}
	if opts.Records != "" {
		if opts.Records, err = filepath.Abs(opts.Records); err != nil {
			return s, err
		}
		args = append(args, "--records", opts.Records)
	}
	log, err := lab.OpenLog(opts.Dir, opts.Name)
	if err != nil {
		return s, err
	}
	defer log.Close()
	from, to, err := os.Pipe()
	if err != nil {
		return s, err
	}
	defer from.Close()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = "/", log, log, []*os.File{to}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal ends it
	err = cmd.Start()
	to.Close()
	if err != nil {
		return s, fmt.Errorf("start the lab's process: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	var rep upReport
	text, err := io.ReadAll(from)
	if err == nil {
		err = json.Unmarshal(text, &rep)
	}
	switch {
	case err != nil:
		_ = cmd.Process.Kill()
		err = fmt.Errorf("the lab's process ended (%w); its last words are in %s", errors.Join(cmd.Wait(), err), log.Name())
	case rep.Error != "":
		_ = cmd.Wait() // it says why in Error
		err = errors.New(rep.Error)
	default:
		return rep.Status, cmd.Process.Release()
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return s, err
}

// readyFD is where the lab's process says how it went: the first descriptor
// that it is given besides the usual three.
const readyFD = 3

func newTestbedServe(e env) *cobra.Command {
	var opts lab.Options
	cmd := &cobra.Command{
		Use:     "serve --chain FILE",
		Short:   "Be the process behind a lab; \"sfcctl testbed up\" starts it",
		Example: "  sudo sfcctl testbed serve --chain edge.yaml",
		Hidden:  true,
		Args:    needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.Validate(); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			opts.Dir, opts.Log = e.getenv(envRun), e.stderr
			report := func(upReport) {}
			if fd := os.NewFile(readyFD, "ready"); isPipe(fd) {
				syscall.CloseOnExec(readyFD)
				opts.LogFile = lab.LogFile(opts)
				report = func(r upReport) {
					// Who started the lab may have gone.
					_ = json.NewEncoder(fd).Encode(r)
					fd.Close()
				}
			}
			up := false
			err := lab.Run(cmd.Context(), opts, func(s lab.Status) {
				up = true
				report(upReport{Status: s})
			})
			if err != nil && !up {
				report(upReport{Error: err.Error()})
			}
			return err
		},
	}
	labFlags(cmd, &opts)
	return cmd
}

// isPipe says whether a file is open and a pipe.
func isPipe(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeNamedPipe != 0
}

func printUp(w io.Writer, s lab.Status) error {
	var b strings.Builder
	if len(s.Chains) == 0 {
		fmt.Fprintf(&b, "lab %s is up: %s, without an engine\n", s.Name, s.Mode)
	} else {
		fmt.Fprintf(&b, "lab %s is up: %s %s, %s on %s, XDP %s, %s, memory %s\n", s.Name, s.Mode,
			strings.Join(s.Chains, ", "), plural(len(s.Cores), "worker"), coreList(s.Cores), s.Attach, s.Bind, s.Memory)
	}
	for _, n := range s.Hosts {
		if len(n.Addresses) > 0 {
			fmt.Fprintf(&b, "  %-7s %s\n", n.Name, strings.Join(n.Addresses, "  "))
		}
	}
	for _, note := range s.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	name := ""
	if s.Name != lab.DefaultName {
		name = " --name " + s.Name
	}
	server := s.Hosts[len(s.Hosts)-1].Addresses[0]
	commands := []string{
		"exec" + name + " server -- python3 -m http.server 80",
		"exec" + name + " client -- curl http://" + server + "/",
		"flows" + name,
		"top" + name,
		"down" + name,
	}
	if len(s.Chains) == 0 {
		commands = []string{"exec" + name + " engine -- sfcd --dev", "down" + name}
	}
	for _, line := range commands {
		fmt.Fprintf(&b, "  sfcctl testbed %s\n", line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// coreList names the cores of workers.
func coreList(cores []int) string {
	names := make([]string, len(cores))
	for i, c := range cores {
		if c < 0 {
			return "no core of their own"
		}
		names[i] = strconv.Itoa(c)
	}
	if len(names) == 1 {
		return "core " + names[0]
	}
	return "cores " + strings.Join(names, ", ")
}
