package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

// Environment variables that commands which speak to a daemon look at, besides
// those of the client.
const envTenant = "SFC_TENANT"

// remote is what commands that speak to a daemon have in common.
type remote struct {
	e      env
	server string
	tenant string
	json   bool
}

// serverFlag gives a command that speaks to a daemon its flag.
func (r *remote) serverFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.server, "server", "", "daemon's address, unix:///PATH or https://HOST:PORT (default: SFC_SERVER, else "+client.DefaultServer+")")
}

// tenantFlag is serverFlag for what belongs to a tenant.
func (r *remote) tenantFlag(cmd *cobra.Command) {
	r.serverFlag(cmd)
	cmd.Flags().StringVar(&r.tenant, "tenant", "", "tenant (default: SFC_TENANT, else the token's, else the only one there is)")
	completeValue(cmd, "tenant", r.tenantNames)
}

// jsonFlag lets a command print JSON.
func (r *remote) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.json, "json", false, "print JSON")
}

// dial makes the client. It does not connect yet.
func (r *remote) dial() (*client.Client, error) {
	return client.FromEnvironment(r.server, r.e.getenv, client.Options{UserAgent: "sfcctl/" + versionText()})
}

// dialTenant makes the client and finds out the tenant.
func (r *remote) dialTenant(ctx context.Context) (*client.Client, error) {
	c, err := r.dial()
	if err != nil {
		return nil, err
	}
	if r.tenant == "" {
		r.tenant = r.e.getenv(envTenant)
	}
	if r.tenant == "" {
		r.tenant, err = onlyTenant(ctx, c)
	}
	return c, err
}

// dialScope is dialTenant for what the host's administrators see of all tenants
// when they name none.
func (r *remote) dialScope(ctx context.Context) (*client.Client, error) {
	c, err := r.dial()
	if err != nil || r.tenant != "" {
		return c, err
	}
	if r.tenant = r.e.getenv(envTenant); r.tenant != "" {
		return c, nil
	}
	id, err := c.Identity(ctx)
	if err != nil {
		return nil, err
	}
	r.tenant = id.Tenant
	return c, nil
}

// cured adds to a problem with a reason which command helps.
func cured(err error, reason, command string, args ...any) error {
	if !api.IsReason(err, reason) {
		return err
	}
	return fmt.Errorf("%w; here: "+command, append([]any{err}, args...)...)
}

// onlyTenant returns the caller's tenant, or the only one there is.
func onlyTenant(ctx context.Context, c *client.Client) (string, error) {
	id, err := c.Identity(ctx)
	if err != nil || id.Tenant != "" {
		return id.Tenant, err
	}
	list, err := c.Tenants().All(ctx)
	if err != nil {
		return "", err
	}
	switch len(list.Items) {
	case 0:
		return "", errors.New("there is no tenant yet: make one with sfcctl tenant create")
	case 1:
		return list.Items[0].Metadata.Name, nil
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Metadata.Name)
		if i == 9 {
			names = append(names, "...")
			break
		}
	}
	return "", fmt.Errorf("which tenant? Name one with --tenant or %s: %s", envTenant, strings.Join(names, ", "))
}

// conditionText is the Ready condition of an object in a word or a few.
func conditionText(cs api.Conditions) (ready, why string) {
	c := cs.Find(api.Ready)
	if c == nil {
		return "Unknown", ""
	}
	if c.Status == api.True {
		return c.Status, ""
	}
	return c.Status, c.Reason
}

// printConditions is a part of describe.
func printConditions(w *table, cs api.Conditions) {
	if len(cs) == 0 {
		return
	}
	w.line("")
	w.row("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE")
	for _, c := range cs {
		w.row(c.Type, c.Status, c.Reason, age(c.LastTransitionTime), c.Message)
	}
}
