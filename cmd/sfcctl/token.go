package main

import (
	"encoding/base64"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/ctrl/functions/sign"
)

func newToken(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Secrets that let programs in over the network",
		Long: `A token says who is asking over TLS, and what he may do: a viewer reads, a deployer
changes functions, aliases and chains as well, an admin everything of the tenant.
The daemon keeps a hash; the secret is shown once. Without a tenant (--host) a
token is good for the whole host.`,
		Example: `  sfcctl tenant token create acme --role deployer
  sfcctl tenant token rotate acme ci --overlap 1h`,
	}
	cmd.AddCommand(newTokenCreate(e), newTokenList(e), newTokenRotate(e), newTokenDelete(e))
	return cmd
}

// tokenScope reads TENANT, or nothing with --host, from the arguments.
func tokenScope(host bool, args []string, more int, what string) (tenant string, rest []string, err error) {
	want := more
	if !host {
		want++
	}
	if len(args) != want {
		return "", nil, fmt.Errorf("%d arguments, %d are expected: %s", len(args), want, what)
	}
	if host {
		return "", args, nil
	}
	return args[0], args[1:], nil
}

// dialTokens makes the client, and reads whose tokens are meant.
func (r *remote) dialTokens(cmd *cobra.Command, host bool, args []string, more int, what string) (c *client.Client, tenant string, rest []string, err error) {
	if tenant, rest, err = tokenScope(host, args, more, what); err != nil {
		return nil, "", nil, &usageError{err, cmd.CommandPath()}
	}
	c, err = r.dial()
	return c, tenant, rest, err
}

// after is the time a duration from now, in whole seconds; 0 leaves it to the
// daemon.
func after(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(d).UTC().Truncate(time.Second)
}

func newTokenCreate(e env) *cobra.Command {
	r := remote{e: e}
	var host bool
	var role, name string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:               "create TENANT",
		Short:             "Make a token and print its secret, once",
		Example:           "  sfcctl tenant token create acme --role deployer --name ci --expires 720h",
		Args:              needArgs(0, 1, "the tenant's name"),
		ValidArgsFunction: completeNames(false, r.tenantNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, tenant, _, err := r.dialTokens(cmd, host, args, 0, "TENANT, or --host")
			if err != nil {
				return err
			}
			if name == "" {
				name = role
			}
			t := &api.Token{Metadata: api.Metadata{Name: name}, Spec: api.TokenSpec{Role: api.Role(role), ExpiresAt: after(expires)}}
			made, err := c.Tokens(tenant).Create(cmd.Context(), t)
			if err != nil {
				return err
			}
			if made.Secret == "" {
				return fmt.Errorf("token %s is there already, and its secret is not shown again: rotate it, or choose another --name", name)
			}
			return r.done(made, nil, "%s", made.Secret)
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&role, "role", string(api.Viewer), "admin, deployer or viewer")
	f.StringVar(&name, "name", "", "its name (default: the role)")
	f.DurationVar(&expires, "expires", 0, "how long it is good (default: 30 days)")
	f.BoolVar(&host, "host", false, "good for the whole host, not for one tenant")
	return cmd
}

func newTokenList(e env) *cobra.Command {
	r := remote{e: e}
	var host bool
	cmd := &cobra.Command{
		Use:               "list TENANT",
		Short:             "List tokens",
		Example:           "  sfcctl tenant token list acme",
		Args:              needArgs(0, 1, "the tenant's name"),
		ValidArgsFunction: completeNames(false, r.tenantNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, tenant, _, err := r.dialTokens(cmd, host, args, 0, "TENANT, or --host")
			if err != nil {
				return err
			}
			list, err := c.Tokens(tenant).All(cmd.Context())
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			w := newTable(e.stdout)
			w.row("TOKEN", "ROLE", "EXPIRES", "EXPIRED", "AGE")
			for i := range list.Items {
				t := &list.Items[i]
				w.row(t.Metadata.Name, t.Spec.Role, t.Spec.ExpiresAt.Format(time.RFC3339), yesNo(t.Status.Expired), age(t.Metadata.CreatedAt))
			}
			return w.flush()
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	cmd.Flags().BoolVar(&host, "host", false, "those that are good for the whole host")
	return cmd
}

func newTokenRotate(e env) *cobra.Command {
	r := remote{e: e}
	var host bool
	var overlap, expires time.Duration
	cmd := &cobra.Command{
		Use:               "rotate TENANT NAME",
		Short:             "Replace a token's secret and print the new one, once",
		Example:           "  sfcctl tenant token rotate acme ci --overlap 1h",
		Args:              needArgs(1, 2, "the tenant's name and the token's"),
		ValidArgsFunction: completeNames(false, r.tenantNames, r.tokenNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, tenant, rest, err := r.dialTokens(cmd, host, args, 1, "TENANT NAME, or NAME with --host")
			if err != nil {
				return err
			}
			rot := api.Rotation{OverlapSeconds: int(overlap.Seconds()), ExpiresAt: after(expires)}
			t, err := c.RotateToken(cmd.Context(), tenant, rest[0], rot)
			if err != nil {
				return err
			}
			return r.done(t, nil, "%s", t.Secret)
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.DurationVar(&overlap, "overlap", 0, "how long the old secret stays good")
	f.DurationVar(&expires, "expires", 0, "how long the new one is good (default: 30 days)")
	f.BoolVar(&host, "host", false, "one that is good for the whole host")
	return cmd
}

func newTokenDelete(e env) *cobra.Command {
	r := remote{e: e}
	var host bool
	cmd := &cobra.Command{
		Use:               "delete TENANT NAME",
		Short:             "Delete a token; it is good no longer",
		Example:           "  sfcctl tenant token delete acme ci",
		Args:              needArgs(1, 2, "the tenant's name and the token's"),
		ValidArgsFunction: completeNames(false, r.tenantNames, r.tokenNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, tenant, rest, err := r.dialTokens(cmd, host, args, 1, "TENANT NAME, or NAME with --host")
			if err != nil {
				return err
			}
			return r.done(nil, c.Tokens(tenant).Delete(cmd.Context(), rest[0], ""), "token %s deleted", rest[0])
		},
	}
	r.serverFlag(cmd)
	cmd.Flags().BoolVar(&host, "host", false, "one that is good for the whole host")
	return cmd
}

func newKey(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Public keys whose signatures on functions a tenant trusts",
		Example: `  sfcctl nf keygen --out release
  sfcctl tenant key add acme release --file release.pub`,
	}
	cmd.AddCommand(newKeyAdd(e), newKeyList(e), newKeyDelete(e))
	return cmd
}

func newKeyAdd(e env) *cobra.Command {
	r := remote{e: e}
	var file string
	cmd := &cobra.Command{
		Use:               "add TENANT NAME",
		Short:             "Trust a public key",
		Example:           "  sfcctl tenant key add acme release --file release.pub",
		Args:              needArgs(2, 2, "the tenant's name and the key's"),
		ValidArgsFunction: completeNames(false, r.tenantNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readSmall(file)
			if err != nil {
				return err
			}
			pub, err := sign.ParsePublicKey(text)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			c, err := r.dial()
			if err != nil {
				return err
			}
			k := &api.Key{Metadata: api.Metadata{Name: args[1]}, Spec: api.KeySpec{PublicKey: base64.StdEncoding.EncodeToString(pub)}}
			made, err := c.Keys(args[0]).Create(cmd.Context(), k)
			return r.done(made, err, "key %s of tenant %s is trusted", args[1], args[0])
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	cmd.Flags().StringVar(&file, "file", "", "the public key, PEM as of sfcctl nf keygen or openssl pkey -pubout")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}

func newKeyList(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "list TENANT",
		Short:             "List keys",
		Example:           "  sfcctl tenant key list acme",
		Args:              needArgs(1, 1, "the tenant's name"),
		ValidArgsFunction: completeNames(false, r.tenantNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			list, err := c.Keys(args[0]).All(cmd.Context())
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			w := newTable(e.stdout)
			w.row("KEY", "PUBLIC KEY", "AGE")
			for i := range list.Items {
				k := &list.Items[i]
				w.row(k.Metadata.Name, k.Spec.PublicKey, age(k.Metadata.CreatedAt))
			}
			return w.flush()
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}

func newKeyDelete(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "delete TENANT NAME",
		Short:             "Trust a key no longer; functions that it signed count as unsigned",
		Example:           "  sfcctl tenant key delete acme release",
		Args:              needArgs(2, 2, "the tenant's name and the key's"),
		ValidArgsFunction: completeNames(false, r.tenantNames, r.keyNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			return r.done(nil, c.Keys(args[0]).Delete(cmd.Context(), args[1], ""), "key %s deleted", args[1])
		},
	}
	r.serverFlag(cmd)
	return cmd
}
