package main

import (
	"context"
	"path/filepath"

	"sfc/ctrl/child"
	"sfc/ctrl/compile"
	"sfc/ctrl/control"
	"sfc/ctrl/kernelipc"
	"sfc/ctrl/planeipc"
)

// demoTenant is there from the start with --dev.
const demoTenant = "demo"

// serveControl serves the API until ctx ends, and calls ready when it does.
func serveControl(ctx context.Context, parts controlParts, ready func() error) error {
	c := parts.config
	compiler, err := compile.New(compile.Options{Command: compilerCommand, Dir: filepath.Join(c.DataDir, "code")})
	if err != nil {
		return err
	}
	opts := control.Options{
		DataDir: c.DataDir, TLSCert: c.TLSCert, TLSKey: c.TLSKey, Plane: parts.plane, Compiler: compiler,
		Traces: c.Traces, Version: versionText(), Log: parts.log, Changed: follow(ctx, parts.plane),
	}
	opts.Supervisor = func(ctx context.Context) (kernelipc.Status, error) {
		return child.Call[kernelipc.Status](ctx, parts.process, kernelipc.MethodStatus, kernelipc.None{})
	}
	for _, l := range parts.listeners {
		opts.Listeners = append(opts.Listeners, control.Listener{Address: l.address, Listener: l.Listener})
	}
	if c.Dev {
		opts.Tenant = demoTenant
	}
	return control.Run(ctx, opts, ready)
}

// follow tells of each data plane that is attached, until ctx ends.
func follow(ctx context.Context, p *planeipc.Client) <-chan struct{} {
	changed := make(chan struct{}, 1)
	go func() {
		for {
			_, next := p.Attached()
			select {
			case <-ctx.Done():
				return
			case <-next:
			}
			select {
			case changed <- struct{}{}:
			default: // one look is enough
			}
		}
	}()
	return changed
}
