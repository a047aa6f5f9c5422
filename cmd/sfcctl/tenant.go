package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
)

func newTenant(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tenant",
		Short: "Who owns functions and chains, and how much each may use",
		Example: `  sfcctl tenant create acme --cpu 50% --memory 64Mi --flows 100k --modules 20
  sfcctl tenant token create acme --role deployer`,
	}
	cmd.AddCommand(newTenantCreate(e), newTenantUpdate(e), newTenantGet(e), newTenantList(e), newTenantDelete(e), newToken(e), newKey(e))
	return cmd
}

// quotaFlags are what a tenant may use.
func quotaFlags(cmd *cobra.Command, s *api.TenantSpec) {
	f := cmd.Flags()
	f.Var(quantity[api.Share]{&s.Share, api.ParseShare}, "cpu", "part of each worker's time that is guaranteed, such as 50% (default: what is left over)")
	f.Var(quantity[api.Bytes]{&s.Memory, api.ParseBytes}, "memory", "memory of all its functions and flows, such as 64Mi (default: no bound)")
	f.Var(quantity[api.Count]{&s.Flows, api.ParseCount}, "flows", "flows of all its chains, such as 100k (default: no bound)")
	f.Var(quantity[api.Count]{&s.Chains, api.ParseCount}, "chains", "chains that run; their match rules are bounded to 4 for each (default: 256)")
	f.Var(quantity[api.Count]{&s.Modules, api.ParseCount}, "modules", "versions of functions stored (default: no bound)")
	f.Var(quantity[api.Bytes]{&s.ModuleBytes, api.ParseBytes}, "module-bytes", "bytes of all modules stored, such as 100Mi (default: no bound)")
	f.Var(quantity[api.Count]{&s.LogLines, api.ParseCount}, "log-lines", "log lines of all its functions per second (default: 100)")
	f.Var(quantity[api.Count]{&s.APICalls, api.ParseCount}, "api-calls", "API calls per second (default: no bound)")
	f.BoolVar(&s.RequireSigned, "require-signed", false, "refuse functions that none of the tenant's keys signed")
}

// quantity is a flag of a type of the API.
type quantity[T fmt.Stringer] struct {
	to    *T
	parse func(string) (T, error)
}

func (q quantity[T]) String() string { return "" }
func (q quantity[T]) Type() string   { return "quantity" }
func (q quantity[T]) Set(s string) error {
	v, err := q.parse(s)
	if err == nil {
		*q.to = v
	}
	return err
}

func newTenantCreate(e env) *cobra.Command {
	r := remote{e: e}
	var t api.Tenant
	cmd := &cobra.Command{
		Use:     "create NAME",
		Short:   "Make a tenant",
		Example: "  sfcctl tenant create acme --cpu 50% --memory 64Mi --flows 100k --modules 20",
		Args:    needArgs(1, 1, "the tenant's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			t.Metadata.Name = args[0]
			made, err := c.Tenants().Create(cmd.Context(), &t)
			err = cured(err, api.ReasonExists, "sfcctl tenant update %s", args[0])
			return r.done(made, err, "tenant %s created", args[0])
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	quotaFlags(cmd, &t.Spec)
	return cmd
}

func newTenantUpdate(e env) *cobra.Command {
	r := remote{e: e}
	var spec api.TenantSpec
	cmd := &cobra.Command{
		Use:               "update NAME",
		Short:             "Change what a tenant may use; what is not named stays",
		Example:           "  sfcctl tenant update acme --cpu 25%",
		Args:              needArgs(1, 1, "the tenant's name"),
		ValidArgsFunction: completeNames(false, r.tenantNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			t, err := c.Tenants().Get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			for name, set := range map[string]func(){
				"cpu": func() { t.Spec.Share = spec.Share }, "memory": func() { t.Spec.Memory = spec.Memory },
				"flows": func() { t.Spec.Flows = spec.Flows }, "chains": func() { t.Spec.Chains = spec.Chains }, "modules": func() { t.Spec.Modules = spec.Modules },
				"module-bytes": func() { t.Spec.ModuleBytes = spec.ModuleBytes }, "log-lines": func() { t.Spec.LogLines = spec.LogLines },
				"api-calls": func() { t.Spec.APICalls = spec.APICalls }, "require-signed": func() { t.Spec.RequireSigned = spec.RequireSigned },
			} {
				if cmd.Flags().Changed(name) {
					set()
				}
			}
			made, err := c.Tenants().Put(cmd.Context(), args[0], t)
			return r.done(made, err, "tenant %s updated", args[0])
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	quotaFlags(cmd, &spec)
	return cmd
}

func newTenantGet(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "get NAME",
		Short:             "Show a tenant",
		Example:           "  sfcctl tenant get acme",
		Args:              needArgs(1, 1, "the tenant's name"),
		ValidArgsFunction: completeNames(false, r.tenantNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			t, err := c.Tenants().Get(cmd.Context(), args[0])
			if err != nil || r.json {
				return r.done(t, err, "")
			}
			w := newTable(e.stdout)
			printTenants(w, []api.Tenant{*t})
			printConditions(w, t.Status.Conditions)
			return w.flush()
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}

func newTenantList(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List tenants",
		Example: "  sfcctl tenant list",
		Args:    needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			list, err := c.Tenants().All(cmd.Context())
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			w := newTable(e.stdout)
			printTenants(w, list.Items)
			return w.flush()
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}

func printTenants(w *table, list []api.Tenant) {
	w.row("TENANT", "CPU", "MEMORY", "FLOWS", "MODULES", "CHAINS", "SIGNED", "AGE")
	for i := range list {
		t := &list[i]
		modules := fmt.Sprint(t.Status.Modules)
		if t.Spec.Modules > 0 {
			modules += " of " + t.Spec.Modules.String()
		}
		chains := fmt.Sprint(t.Status.Chains)
		if t.Spec.Chains > 0 {
			chains += " of " + t.Spec.Chains.String()
		}
		w.row(t.Metadata.Name, orDash(t.Spec.Share), orDash(t.Spec.Memory), orDash(t.Spec.Flows), modules, chains, yesNo(t.Spec.RequireSigned), age(t.Metadata.CreatedAt))
	}
}

// orDash prints a bound, a dash when there is none.
func orDash[T interface {
	comparable
	fmt.Stringer
}](v T) string {
	var zero T
	if v == zero {
		return "-"
	}
	return v.String()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func newTenantDelete(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "delete NAME",
		Short:             "Delete a tenant that has no chains, with its functions and tokens",
		Example:           "  sfcctl tenant delete acme",
		Args:              needArgs(1, 1, "the tenant's name"),
		ValidArgsFunction: completeNames(false, r.tenantNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			return r.done(nil, c.Tenants().Delete(cmd.Context(), args[0], ""), "tenant %s deleted", args[0])
		},
	}
	r.serverFlag(cmd)
	return cmd
}

// done ends a command: with its error, with the object as JSON if that was asked
// for, or with a line that says what happened.
func (r *remote) done(object any, err error, format string, args ...any) error {
	switch {
	case err != nil:
		return err
	case r.json && object != nil:
		return printJSON(r.e.stdout, object)
	case format == "":
		return nil
	}
	_, err = fmt.Fprintf(r.e.stdout, format+"\n", args...)
	return err
}
