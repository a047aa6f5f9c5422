package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

func newNFAlias(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alias",
		Short: "Names for versions, which chains follow",
		Example: `  sfcctl nf alias set firewall prod=1.2.0
  sfcctl nf alias set firewall prod=1.3.0@10%
  sfcctl nf alias promote firewall prod
  sfcctl nf alias rollback firewall prod`,
	}
	cmd.AddCommand(newAliasSet(e), newAliasList(e), newAliasPromote(e), newAliasAbort(e), newAliasRollback(e), newAliasDelete(e))
	return cmd
}

// parseAlias reads ALIAS=VERSION, or ALIAS=VERSION@PERCENT% for a canary.
func parseAlias(s string) (alias, version string, percent int, err error) {
	alias, target, ok := strings.Cut(s, "=")
	if !ok || alias == "" || target == "" {
		return "", "", 0, fmt.Errorf("%q: give ALIAS=VERSION, such as prod=1.2.0, or ALIAS=VERSION@10%% for a tenth of the flows", s)
	}
	version, share, canary := strings.Cut(target, "@")
	if !canary {
		return alias, version, 0, nil
	}
	digits, ok := strings.CutSuffix(share, "%")
	percent, err = strconv.Atoi(digits)
	if !ok || err != nil || percent < 1 || percent > 100 {
		return "", "", 0, fmt.Errorf("%q: %q is no share of the flows: write it as 10%%", s, share)
	}
	if percent == 100 {
		percent = 0 // that is everybody
	}
	return alias, version, percent, nil
}

func newAliasSet(e env) *cobra.Command {
	r := remote{e: e}
	var ifVersion string
	cmd := &cobra.Command{
		Use:   "set FUNCTION ALIAS=VERSION[@PERCENT%]",
		Short: "Make an alias, or move it: chains that use it follow under traffic",
		Long: `Makes an alias stand for a version. Chains that use the alias take the new version
between two bursts; flows keep their state if its layout allows. A version that
faults during its probation goes back by itself.

With @PERCENT% the version is a canary: so many of the flows meet it, the others
the version that the alias stands for. Set it again with another share, and end it
with sfcctl nf alias promote or abort. A canary that faults is taken out at once;
see sfcctl chain describe.

With --if the alias is moved only if it stands for that version still.`,
		Example: `  sfcctl nf alias set firewall prod=1.2.0
  sfcctl nf alias set firewall prod=1.3.0@10%
  sfcctl nf alias set firewall prod=1.3.0 --if 1.2.0`,
		Args:              needArgs(2, 2, "a function and ALIAS=VERSION"),
		ValidArgsFunction: completeNames(false, r.functionNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			alias, version, percent, err := parseAlias(args[1])
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			spec := api.AliasSpec{Version: version}
			expected := ""
			if percent > 0 || ifVersion != "" {
				old, err := c.Alias(cmd.Context(), r.tenant, args[0], alias)
				switch {
				case api.IsReason(err, api.ReasonNotFound) && percent > 0:
					return fmt.Errorf("alias %s of %s stands for nothing yet: set it to a version for all flows first", alias, args[0])
				case err != nil:
					return err
				case ifVersion != "" && old.Spec.Version != ifVersion:
					return fmt.Errorf("alias %s of %s stands for %s, not %s: nothing is changed", alias, args[0], old.Spec.Version, ifVersion)
				}
				expected = old.Metadata.ResourceVersion
				if percent > 0 {
					spec = api.AliasSpec{Version: old.Spec.Version, Canary: &api.Canary{Version: version, Percent: percent}}
				}
			}
			a, err := c.PutAlias(cmd.Context(), r.tenant, args[0], alias, spec, expected)
			return r.done(a, err, "%s@%s stands for %s", args[0], alias, aliasText(spec))
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	cmd.Flags().StringVar(&ifVersion, "if", "", "only if it stands for this version still")
	return cmd
}

// aliasText is what an alias stands for.
func aliasText(s api.AliasSpec) string {
	if s.Canary == nil {
		return s.Version
	}
	return fmt.Sprintf("%s, and %s for %d%% of the flows", s.Version, s.Canary.Version, s.Canary.Percent)
}

func newAliasList(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "list [FUNCTION]",
		Short:             "List aliases",
		Example:           "  sfcctl nf alias list",
		Args:              needArgs(0, 1, "at most a function"),
		ValidArgsFunction: completeNames(false, r.functionNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			list, err := c.AllAliases(cmd.Context(), r.tenant, strings.Join(args, ""))
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			w := newTable(e.stdout)
			w.row("FUNCTION", "ALIAS", "STANDS FOR", "BEFORE", "MOVED")
			for i := range list.Items {
				a := &list.Items[i]
				w.row(a.Spec.Function, a.Metadata.Name, aliasText(a.Spec), before(a), age(a.Metadata.UpdatedAt))
			}
			return w.flush()
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}

// before is the version that an alias stood for before the one it stands for, which
// is where a rollback goes when nothing is on trial.
func before(a *api.Alias) string {
	for _, h := range a.Status.History {
		if h.Version != a.Spec.Version {
			return h.Version
		}
	}
	return ""
}

func newAliasRollback(e env) *cobra.Command {
	return aliasMove(e, "rollback", "Make an alias stand for what it stood for before", "", (*client.Client).RollbackAlias)
}

func newAliasPromote(e env) *cobra.Command {
	return aliasMove(e, "promote", "Give all flows the version on trial",
		`Ends a trial well: the alias stands for the version on trial, which all flows meet
from the next burst on.`, (*client.Client).PromoteAlias)
}

func newAliasAbort(e env) *cobra.Command {
	return aliasMove(e, "abort", "End a trial: all flows meet the version in service",
		`Ends a trial: flows that met the version on trial go on with the one that the alias
stands for. Without a trial nothing is changed.`, (*client.Client).AbortAlias)
}

// aliasMove is a command that moves an alias to where its own history or trial says.
func aliasMove(e env, verb, short, long string, move func(c *client.Client, ctx context.Context, tenant, function, alias, resourceVersion string) (*api.Alias, error)) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               verb + " FUNCTION ALIAS",
		Short:             short,
		Long:              long,
		Example:           "  sfcctl nf alias " + verb + " firewall prod",
		Args:              needArgs(2, 2, "a function and an alias"),
		ValidArgsFunction: completeNames(false, r.functionNames, r.aliasNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			a, err := move(c, cmd.Context(), r.tenant, args[0], args[1], "")
			if err != nil {
				return err
			}
			return r.done(a, nil, "%s@%s stands for %s", args[0], args[1], aliasText(a.Spec))
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}

func newAliasDelete(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "delete FUNCTION ALIAS",
		Short:             "Delete an alias that no chain uses",
		Example:           "  sfcctl nf alias delete firewall old",
		Args:              needArgs(2, 2, "a function and an alias"),
		ValidArgsFunction: completeNames(false, r.functionNames, r.aliasNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.Contains(args[1], "=") {
				return &usageError{errors.New("give the alias alone, without a version"), cmd.CommandPath()}
			}
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			return r.done(nil, c.DeleteAlias(cmd.Context(), r.tenant, args[0], args[1], ""), "alias %s of %s deleted", args[1], args[0])
		},
	}
	r.tenantFlag(cmd)
	return cmd
}
