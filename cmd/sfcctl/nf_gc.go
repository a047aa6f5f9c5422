package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
)

func newNFCollect(e env) *cobra.Command {
	r := remote{e: e}
	var grace time.Duration
	var dry bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove versions that nothing uses",
		Long: `Removes the versions of functions that no alias stands for or would by a rollback,
that no chain names or runs, and that are older than --grace; then the modules that
no version has any more.`,
		Example: `  sfcctl nf gc --dry-run
  sfcctl nf gc --grace 1h`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if grace < 0 {
				return &usageError{fmt.Errorf("--grace %v: give a time such as 24h, or 0", grace), cmd.CommandPath()}
			}
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			done, err := c.Collect(cmd.Context(), r.tenant, grace, dry)
			if err != nil || r.json {
				return r.done(done, err, "")
			}
			if len(done.Versions) > 0 {
				w := newTable(e.stdout)
				w.row("FUNCTION", "VERSION", "DIGEST", "SIZE", "AGE")
				for _, v := range done.Versions {
					w.row(v.Function, v.Version, shortDigest(v.Digest), v.Size, age(v.CreatedAt))
				}
				if err := w.flush(); err != nil {
					return err
				}
			}
			verb := "removed"
			if dry {
				verb = "would be removed"
			}
			return r.done(nil, nil, "%s and %s, %d bytes, %s", plural(len(done.Versions), "version"), plural(done.Modules, "module"), done.Bytes, verb)
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	cmd.Flags().DurationVar(&grace, "grace", api.DefaultGrace, "how old a version must be")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would go")
	return cmd
}
