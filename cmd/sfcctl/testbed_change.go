package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sfc/chains"
	"sfc/dataplane/steer"
	"sfc/testbed/lab"
)

func newTestbedMove(e env) *cobra.Command {
	var name string
	var args lab.MoveArgs
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "move --bucket N --to WORKER",
		Short: "Move flows to another worker while traffic runs",
		Long: `Gives the flows of one bucket, with all that functions keep of them, to another
worker. No packet is lost and none overtakes another of its flow: those that
come meanwhile wait, a fraction of a millisecond.

Flows are dealt out by bucket: "sfcctl testbed flows" shows each flow's bucket
and worker, "sfcctl testbed workers" how many buckets every worker has.`,
		Example: `  sudo sfcctl testbed move --bucket 17 --to 1
  sudo sfcctl testbed move --bucket 17 --to 0 --chain stateful`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			switch {
			case !cmd.Flags().Changed("bucket"):
				err = errors.New("no bucket given: name one with --bucket")
			case !cmd.Flags().Changed("to"):
				err = errors.New("no worker given: name one with --to")
			case args.Bucket < 0 || args.Bucket >= steer.Buckets:
				err = fmt.Errorf("--bucket %d: it is 0 to %d", args.Bucket, steer.Buckets-1)
			case args.To < 0:
				err = fmt.Errorf("--to %d: workers are counted from 0", args.To)
			}
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			c, err := dialLab(e, cmd, name)
			if err != nil {
				return err
			}
			r, err := c.Move(cmd.Context(), args)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(e.stdout, r)
			}
			return printMove(e.stdout, r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&args.Chain, "chain", "", "whose flows, where there are several chains (a name, or tenant/name)")
	f.IntVar(&args.Bucket, "bucket", 0, fmt.Sprintf("the flows' bucket, 0 to %d", steer.Buckets-1))
	f.IntVar(&args.To, "to", 0, "the worker that gets them")
	f.BoolVar(&asJSON, "json", false, "print what was moved as JSON")
	nameFlag(cmd, &name)
	return cmd
}

func printMove(w io.Writer, r *lab.MoveReport) error {
	if r.From == r.To {
		_, err := fmt.Fprintf(w, "bucket %d of %s is worker %d's already\n", r.Bucket, r.Chain, r.To)
		return err
	}
	_, err := fmt.Fprintf(w, "bucket %d of %s: %s from worker %d to %d in %v\n", r.Bucket, r.Chain,
		plural(r.Flows, "flow"), r.From, r.To, time.Duration(r.TookNs).Round(time.Microsecond))
	if r.Refused > 0 {
		_, moreErr := fmt.Fprintf(w, "  %s found no room there, and ended\n", plural(r.Refused, "flow"))
		err = errors.Join(err, moreErr)
	}
	return err
}

func newTestbedSwap(e env) *cobra.Command {
	var name, config string
	var args lab.SwapArgs
	var probation time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "swap FUNCTION[=FILE.wasm]",
		Short: "Replace a function, or its configuration, while traffic runs",
		Long: `Puts a new version of a function in the place of the old one, on every worker,
between two bursts. It is checked, compiled and configured first; no packet is
lost. Without a module the function gets another configuration.

What the function keeps of flows stays when both versions say that it means the
same (flow_state_layout in their manifests), or is handed over by the new
version (its export sfc_slot_migrate); else the swap is refused, unless
--reset-state says to begin anew. When the new version faults in its probation,
the old one comes back: "sfcctl testbed workers" says how it stands.`,
		Example: `  sudo sfcctl testbed swap firewall=firewall-v2.wasm
  sudo sfcctl testbed swap firewall --config rules.json
  sudo sfcctl testbed swap flowstat=flowstat-v3.wasm --reset-state`,
		Args: needArgs(1, 1, "a function, or FUNCTION=FILE.wasm"),
		RunE: func(cmd *cobra.Command, words []string) error {
			function, module, both := strings.Cut(words[0], "=")
			var err error
			switch {
			case function == "":
				err = fmt.Errorf("%q names no function: write FUNCTION=FILE.wasm", words[0])
			case both && module == "":
				err = fmt.Errorf("%q names no module: write FUNCTION=FILE.wasm", words[0])
			case !both && config == "":
				err = fmt.Errorf("nothing new for %s: write %s=FILE.wasm, or give --config, or both", function, function)
			case probation < 0:
				err = fmt.Errorf("--probation %v: give a time to wait for faults", probation)
			}
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			args.Function, args.ProbationNs = function, probation.Nanoseconds()
			if module != "" {
				if args.Module, err = filepath.Abs(module); err != nil {
					return err
				}
			}
			if config != "" {
				if args.Config, err = chains.LoadConfig(config); err != nil {
					return fmt.Errorf("--config %s: %w", config, err)
				}
			}
			c, err := dialLab(e, cmd, name)
			if err != nil {
				return err
			}
			r, err := c.Swap(cmd.Context(), args)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(e.stdout, r)
			}
			return printSwap(e.stdout, function, r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&args.Chain, "chain", "", "whose function, where there are several chains (a name, or tenant/name)")
	f.StringVar(&config, "config", "", "file with the new configuration, JSON or YAML; default: the one in force")
	f.BoolVar(&args.ResetState, "reset-state", false, "let what the function keeps of flows begin anew if it does not fit")
	f.DurationVar(&probation, "probation", 5*time.Second, "how long a fault puts the old version back")
	f.BoolVar(&asJSON, "json", false, "print what was done as JSON")
	nameFlag(cmd, &name)
	if err := cmd.MarkFlagFilename("config", "json", "yaml", "yml"); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}

func printSwap(w io.Writer, function string, r *lab.SwapReport) error {
	var longest int64
	for _, ns := range r.HoldsNs {
		longest = max(longest, ns)
	}
	what := fmt.Sprintf("version %s in the place of %s", r.To, r.From)
	if r.To == r.From {
		what = "version " + r.To + " anew"
	}
	state := map[string]string{"none": "no flow state", "kept": "flow state kept", "migrated": "flow state handed over", "reset": "flow state begins anew"}[r.State]
	_, err := fmt.Fprintf(w, "%s: %s, %s; packets waited %v at most\n", function, what, state, time.Duration(longest).Round(100*time.Nanosecond))
	return err
}
