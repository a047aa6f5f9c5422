package main

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"sfc/ctrl/compile"
	"sfc/ctrl/kernelipc"
)

// runCompile is a child of the compiler: one module, and gone.
func runCompile(ctx context.Context) error {
	if len(os.Args) != 3 {
		return errors.New("a compiler is started by sfcd, not by hand")
	}
	return compile.Child(ctx, os.Args[2], os.Stdout)
}

// compilerCommand is the command of such a child. Nothing of the environment is
// its business.
func compilerCommand() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", kernelipc.RoleCompile)
	cmd.Args[0] = "sfcd: compile"
	cmd.Env = []string{}
	return cmd
}
