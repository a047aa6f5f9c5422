package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sfc/chains"
	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

// readChain reads a chain file as the daemon takes it.
func readChain(cmd *cobra.Command, r *remote, file string) (*client.Client, *api.Chain, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	f.Close()
	spec, err := chains.Load(file)
	if err != nil {
		return nil, nil, err
	}
	if r.tenant == "" {
		r.tenant = spec.Tenant
	}
	c, err := r.dialTenant(cmd.Context())
	if err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	doc, err := chains.Document(file, data, func(said, path string) (string, error) {
		return storedModule(cmd, c, r.tenant, said, path)
	})
	if err != nil {
		return nil, nil, err
	}
	chain := &api.Chain{}
	if err := json.Unmarshal(doc, chain); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	chain.Metadata.Tenant = r.tenant
	return c, chain, nil
}

// waitChain waits until a chain is active as its spec says.
func waitChain(cmd *cobra.Command, c *client.Client, tenant, name string) error {
	return waitReady(cmd.Context(), "chain "+tenant+"/"+name, func(ctx context.Context) (api.Conditions, int64, error) {
		chain, err := c.Chains(tenant).Get(ctx, name)
		if err != nil {
			return nil, 0, err
		}
		return chain.Status.Conditions, chain.Metadata.Generation, nil
	})
}

func newChainCreate(e env) *cobra.Command {
	return chainWrite(e, "create", "Make a chain of a chain file, and wait until it is active",
		`Sends a chain file to the daemon. Functions name stored versions (firewall@1.2.0),
aliases (firewall@prod, which chains follow when it moves) or module files, which
must have been deployed. The chain becomes active on all workers at once.`,
		"created and active", func(ctx context.Context, c *client.Client, chain *api.Chain) (*api.Chain, error) {
			made, err := c.Chains(chain.Metadata.Tenant).Create(ctx, chain)
			return made, cured(err, api.ReasonExists, "sfcctl chain update")
		})
}

func newChainUpdate(e env) *cobra.Command {
	return chainWrite(e, "update", "Change a chain under traffic to what a chain file says",
		`Replaces a chain's spec. Functions whose version or configuration changed are
replaced between two bursts; flows keep their state if its layout allows. A chain
that cannot be changed stays as it is, and the command says why.`,
		"updated and active", func(ctx context.Context, c *client.Client, chain *api.Chain) (*api.Chain, error) {
			old, err := c.Chains(chain.Metadata.Tenant).Get(ctx, chain.Metadata.Name)
			if err != nil {
				return nil, err
			}
			chain.Metadata.ResourceVersion = old.Metadata.ResourceVersion
			return c.Chains(chain.Metadata.Tenant).Put(ctx, chain.Metadata.Name, chain)
		})
}

func chainWrite(e env, verb, short, long, done string, write func(context.Context, *client.Client, *api.Chain) (*api.Chain, error)) *cobra.Command {
	r := remote{e: e}
	var file string
	var noWait bool
	cmd := &cobra.Command{
		Use:     verb + " -f FILE",
		Short:   short,
		Long:    long,
		Example: "  sfcctl chain " + verb + " -f edge.yaml",
		Args:    needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, chain, err := readChain(cmd, &r, file)
			if err != nil {
				return err
			}
			start := time.Now()
			made, err := write(cmd.Context(), c, chain)
			if err != nil {
				return err
			}
			if noWait {
				return r.done(made, nil, "chain %s/%s: accepted", r.tenant, chain.Metadata.Name)
			}
			if err := waitChain(cmd, c, r.tenant, chain.Metadata.Name); err != nil {
				return err
			}
			took := time.Since(start).Round(time.Millisecond)
			if r.json {
				made, err = c.Chains(r.tenant).Get(cmd.Context(), chain.Metadata.Name)
			}
			return r.done(made, err, "chain %s/%s: %s after %v", r.tenant, chain.Metadata.Name, done, took)
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "chain file")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is active")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // the flag was defined above
	}
	if err := cmd.MarkFlagFilename("file", "yaml", "yml", "json"); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}

func newChainGet(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "get NAME",
		Short:             "Print a chain as the daemon has it, in JSON",
		Example:           "  sfcctl chain get edge",
		Args:              needArgs(1, 1, "a chain"),
		ValidArgsFunction: completeNames(false, r.chainNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			chain, err := c.Chains(r.tenant).Get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printJSON(e.stdout, chain)
		},
	}
	r.tenantFlag(cmd)
	return cmd
}

func newChainDescribe(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "describe NAME",
		Short:             "Show a chain, how it runs, and why not if it does not",
		Example:           "  sfcctl chain describe edge",
		Args:              needArgs(1, 1, "a chain"),
		ValidArgsFunction: completeNames(false, r.chainNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			chain, err := c.Chains(r.tenant).Get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			w := newTable(e.stdout)
			describeChain(w, chain)
			return w.flush()
		},
	}
	r.tenantFlag(cmd)
	return cmd
}

func describeChain(w *table, c *api.Chain) {
	w.row("Chain:", c.Metadata.Tenant+"/"+c.Metadata.Name)
	w.row("Active:", yesNo(c.Status.Active))
	w.row("Generation:", fmt.Sprintf("%d, in force %d", c.Metadata.Generation, c.Status.ObservedGeneration))
	w.row("Egress:", c.Spec.Egress)
	if c.Spec.Drain {
		w.row("Drain:", "yes, it takes no new flows")
	}
	w.row("Created:", age(c.Metadata.CreatedAt)+" ago")
	w.line("")
	w.row("FUNCTION", "MODULE", "VERSION", "DIGEST", "STATE", "CANARY", "MESSAGE")
	for _, f := range c.Spec.Functions {
		var s api.ChainFunctionStatus
		for _, have := range c.Status.Functions {
			if have.Name == f.Name {
				s = have
			}
		}
		w.row(f.Name, f.Module, s.Version, shortDigest(s.Digest), s.State, canaryText(&s), s.Message)
	}
	printConditions(w, c.Status.Conditions)
}

// canaryText is the version on trial of a function, and for whom.
func canaryText(s *api.ChainFunctionStatus) string {
	if s.CanaryDigest == "" {
		return ""
	}
	return fmt.Sprintf("%s %s %d%%", s.CanaryVersion, shortDigest(s.CanaryDigest), s.CanaryPercent)
}

func newChainList(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List chains",
		Example: "  sfcctl chain list",
		Args:    needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			list, err := c.Chains(r.tenant).All(cmd.Context())
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			w := newTable(e.stdout)
			w.row("CHAIN", "FUNCTIONS", "EGRESS", "ACTIVE", "READY", "AGE")
			for i := range list.Items {
				c := &list.Items[i]
				var names []string
				for _, f := range c.Spec.Functions {
					names = append(names, f.Name)
				}
				ready, why := conditionText(c.Status.Conditions)
				w.row(c.Metadata.Name, strings.Join(names, ","), c.Spec.Egress, yesNo(c.Status.Active), strings.TrimSpace(ready+" "+why), age(c.Metadata.CreatedAt))
			}
			return w.flush()
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}

func newChainDelete(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "delete NAME...",
		Short:             "Delete chains; their flows end",
		Example:           "  sfcctl chain delete edge",
		Args:              needArgs(1, -1, "chains"),
		ValidArgsFunction: completeNames(true, r.chainNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := r.done(nil, c.Chains(r.tenant).Delete(cmd.Context(), name, ""), "chain %s/%s deleted", r.tenant, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	r.tenantFlag(cmd)
	return cmd
}

func newChainDrain(e env) *cobra.Command {
	r := remote{e: e}
	var undo bool
	cmd := &cobra.Command{
		Use:               "drain NAME",
		Short:             "Let a chain take no new flows, until those that are there have ended",
		Example:           "  sfcctl chain drain edge\n  sfcctl chain drain edge --undo",
		Args:              needArgs(1, 1, "a chain"),
		ValidArgsFunction: completeNames(false, r.chainNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			chain, err := c.Chains(r.tenant).Get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			chain.Spec.Drain = !undo
			if _, err := c.Chains(r.tenant).Put(cmd.Context(), args[0], chain); err != nil {
				return err
			}
			if err := waitChain(cmd, c, r.tenant, args[0]); err != nil {
				return err
			}
			if undo {
				return r.done(nil, nil, "chain %s/%s takes new flows again", r.tenant, args[0])
			}
			return r.done(nil, nil, "chain %s/%s takes no new flows", r.tenant, args[0])
		},
	}
	r.tenantFlag(cmd)
	cmd.Flags().BoolVar(&undo, "undo", false, "take new flows again")
	return cmd
}
