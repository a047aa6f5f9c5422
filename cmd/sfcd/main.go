// Command sfcd is the daemon: a supervisor, a data plane and control, each in a
// process of its own.
package main

import (
	"context"
	"fmt"
	"os"

	"sfc/ctrl/kernelipc"
)

func main() {
	ctx := context.Background()
	var err error
	// What the supervisor starts says its role in front of everything else.
	switch role := firstArgument(); role {
	case kernelipc.RoleDataplane:
		err = runDataplane(ctx)
	case kernelipc.RoleControl:
		err = runControl(ctx)
	case kernelipc.RoleCompile:
		err = runCompile(ctx)
	default:
		err = newRoot().ExecuteContext(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sfcd:", err)
		os.Exit(1)
	}
}

func firstArgument() string {
	if len(os.Args) < 2 {
		return ""
	}
	return os.Args[1]
}
