package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
)

// completeTimeout bounds how long a shell waits for names.
const completeTimeout = 2 * time.Second

// namer finds the names that may stand at a place, behind the arguments before it.
type namer func(ctx context.Context, args []string) ([]string, error)

// completeNames completes arguments with names from the daemon, each by its namer. A
// command that takes any number takes more of the last. What cannot be found
// out is not completed: a shell has no place for errors.
func completeNames(more bool, each ...namer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		at := len(args)
		if at >= len(each) && more {
			at = len(each) - 1
		}
		if at >= len(each) || each[at] == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		found := ask(cmd, each[at], args, prefix)
		if more { // what is there already is not meant twice
			found = slices.DeleteFunc(found, func(n string) bool { return slices.Contains(args, n) })
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// ask returns the names that begin as what was typed, sorted; none if they cannot
// be found out.
func ask(cmd *cobra.Command, n namer, args []string, prefix string) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	found, err := n(ctx, args)
	if err != nil {
		return nil
	}
	found = slices.DeleteFunc(found, func(n string) bool { return !strings.HasPrefix(n, prefix) })
	slices.Sort(found)
	return slices.Compact(found)
}

// completeValue completes the value of a flag, which is there, with names from the
// daemon.
func completeValue(cmd *cobra.Command, flag string, n namer) {
	completeFlag(cmd, flag, func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return ask(cmd, n, args, prefix), cobra.ShellCompDirectiveNoFileComp
	})
}

// completeFlag completes the value of a flag, which is there.
func completeFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag was defined above
	}
}

// names lists what f says of each of a list's objects.
func names[T any](list *api.List[T], err error, f func(*T) string) (all []string, _ error) {
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		all = append(all, f(&list.Items[i]))
	}
	return all, nil
}

func (r *remote) tenantNames(ctx context.Context, _ []string) ([]string, error) {
	c, err := r.dial()
	if err != nil {
		return nil, err
	}
	list, err := c.Tenants().All(ctx)
	return names(list, err, func(t *api.Tenant) string { return t.Metadata.Name })
}

func (r *remote) portNames(ctx context.Context, _ []string) ([]string, error) {
	c, err := r.dial()
	if err != nil {
		return nil, err
	}
	list, err := c.Ports().All(ctx)
	return names(list, err, func(p *api.Port) string { return p.Metadata.Name })
}

// tokenNames are those of the tenant that is the first argument, and keyNames.
func (r *remote) tokenNames(ctx context.Context, args []string) ([]string, error) {
	c, err := r.dial()
	if err != nil {
		return nil, err
	}
	list, err := c.Tokens(args[0]).All(ctx)
	return names(list, err, func(t *api.Token) string { return t.Metadata.Name })
}

func (r *remote) keyNames(ctx context.Context, args []string) ([]string, error) {
	c, err := r.dial()
	if err != nil {
		return nil, err
	}
	list, err := c.Keys(args[0]).All(ctx)
	return names(list, err, func(k *api.Key) string { return k.Metadata.Name })
}

func (r *remote) chainNames(ctx context.Context, _ []string) ([]string, error) {
	c, err := r.dialTenant(ctx)
	if err != nil {
		return nil, err
	}
	list, err := c.Chains(r.tenant).All(ctx)
	return names(list, err, func(c *api.Chain) string { return c.Metadata.Name })
}

func (r *remote) functionNames(ctx context.Context, _ []string) ([]string, error) {
	c, err := r.dialTenant(ctx)
	if err != nil {
		return nil, err
	}
	list, err := c.AllFunctions(ctx, r.tenant, "")
	return names(list, err, func(f *api.Function) string { return f.Metadata.Name })
}

// versionNames are FUNCTION@VERSION.
func (r *remote) versionNames(ctx context.Context, _ []string) ([]string, error) {
	c, err := r.dialTenant(ctx)
	if err != nil {
		return nil, err
	}
	list, err := c.AllFunctions(ctx, r.tenant, "")
	return names(list, err, func(f *api.Function) string { return f.Metadata.Name + "@" + f.Spec.Version })
}

// aliasNames are those of the function that is the first argument.
func (r *remote) aliasNames(ctx context.Context, args []string) ([]string, error) {
	c, err := r.dialTenant(ctx)
	if err != nil {
		return nil, err
	}
	list, err := c.AllAliases(ctx, r.tenant, args[0])
	return names(list, err, func(a *api.Alias) string { return a.Metadata.Name })
}
