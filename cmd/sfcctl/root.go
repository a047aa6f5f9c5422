package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRoot puts the command tree together.
func newRoot(e env) *cobra.Command {
	root := &cobra.Command{
		Use:   "sfcctl",
		Short: "Check, build and run chains of network functions",
		Long: `sfcctl works with chains of network functions: YAML files that name functions
(WebAssembly modules), the packets they shall see and the port these leave on.

Most commands speak to a daemon, sfcd. Those that need none: replay, record,
testbed, chain validate, and nf inspect, new, build, test, sign and keygen.`,
		Example: `  sfcctl chain create -f edge.yaml
  sudo sfcctl replay --chain edge.yaml --in capture.pcap
  sfcctl chain validate edge.yaml
  sfcctl nf inspect acl.wasm
  sfcctl nf build ./myfilter`,
		Version:       versionText(),
		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
	}
	root.SetArgs(e.args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{flagError(err), cmd.CommandPath()}
	})
	root.AddCommand(
		newStatus(e), newTenant(e), newNF(e), newPort(e), newChain(e),
		newTop(e), newFlows(e), newEvents(e), newLogs(e), newTrace(e), newCapture(e), newAudit(e),
		newReplay(e), newRecord(e), newTestbed(e), newMan(e),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	finish(root)
	return root
}

// flagError puts the flags package's error about a number, which quotes
// strconv, into words of ours.
func flagError(err error) error {
	if bad := (*pflag.InvalidValueError)(nil); errors.As(err, &bad) && bad.GetFlag().Value.Type() == "int" {
		return fmt.Errorf("--%s %q: give a whole number", bad.GetFlag().Name, bad.GetValue())
	}
	return err
}

// finish gives every command what cobra leaves out: an error instead of exit
// status 0 for an unknown subcommand, exit status 2 for wrong arguments, and
// examples for cobra's own commands.
func finish(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			return nil
		}
	}
	cmd.PreRunE = requireFlags
	cmd.SuggestionsMinimumDistance = 2
	if cmd.Run == nil && cmd.RunE == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = group
	}
	if cmd.Example == "" {
		switch {
		case cmd.Name() == "help":
			cmd.Example = "  sfcctl help chain validate"
		case cmd.Name() == "completion":
			cmd.Example = "  sfcctl completion bash > /etc/bash_completion.d/sfcctl"
		case cmd.HasParent() && cmd.Parent().Name() == "completion":
			cmd.Example = fmt.Sprintf("  sfcctl completion %s", cmd.Name())
		}
	}
	for _, sub := range cmd.Commands() {
		finish(sub)
	}
}

// requireFlags says which flags a command needs, or cannot have together, as a
// mistake in the command line.
func requireFlags(cmd *cobra.Command, _ []string) error {
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Annotations[cobra.BashCompOneRequiredFlag] != nil && !f.Changed && err == nil {
			err = fmt.Errorf("missing flag --%s: %s", f.Name, f.Usage)
		}
	})
	if err == nil {
		err = cmd.ValidateFlagGroups()
	}
	if err != nil {
		return &usageError{err, cmd.CommandPath()}
	}
	return nil
}

// group is what a command does that only holds others: without arguments it
// shows its help.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %q?", strings.Join(near, `" or "`))
	}
	return &usageError{fmt.Errorf("%s", text), cmd.CommandPath()}
}

// needArgs accepts between lo and hi arguments (hi < 0: any number); what says
// what they are.
func needArgs(lo, hi int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < lo:
			return fmt.Errorf("missing argument: %s", what)
		case hi >= 0 && len(args) > hi:
			return fmt.Errorf("unexpected argument %q: want %s", args[hi], what)
		}
		return nil
	}
}

// completeFiles completes arguments with files that have one of the extensions
// (without dot).
func completeFiles(extensions ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}

// completeDir completes the first argument with folders.
func completeDir(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}
