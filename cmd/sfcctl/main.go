// Command sfcctl checks, builds and runs chains of network functions.
package main

import "os"

func main() {
	ctx, stop := untilSignal()
	defer stop()
	os.Exit(run(ctx, hostEnv()))
}
