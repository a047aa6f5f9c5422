package confine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"sfc/testbed/gate"
)

// TestMain is also the children that the tests confine.
func TestMain(m *testing.M) {
	if role := os.Getenv("CONFINE_CHILD"); role != "" {
		child(role, strings.Fields(os.Getenv("CONFINE_TRY")))
		return
	}
	os.Exit(gate.Main(m))
}

// child confines itself, tries what it is told to, and prints what came of
// each.
func child(role string, actions []string) {
	filter := map[string]func() *Filter{"dataplane": DataPlane, "compile": Compile, "control": Control}[role]
	setUp()
	if err := Seal(filter(), Limits{Files: 256, Memlock: 1 << 20}); err != nil {
		fmt.Println("seal:", err)
		os.Exit(1)
	}
	for _, name := range actions {
		err := tries[name]()
		var errno syscall.Errno
		switch {
		case err == nil:
			fmt.Println(name, "done")
		case errors.As(err, &errno):
			fmt.Println(name, "refused:", errno.Error())
		default:
			fmt.Println(name, "error:", err)
		}
	}
}

// run runs a child as nobody, and returns what it printed and how it ended.
func run(t *testing.T, role string, id *Identity, actions ...string) (results map[string]string, end error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CONFINE_CHILD="+role, "CONFINE_TRY="+strings.Join(actions, " "))
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := Start(cmd, id); err != nil {
		t.Fatal(err)
	}
	end = cmd.Wait()
	results = map[string]string{}
	for s := bufio.NewScanner(&out); s.Scan(); {
		name, result, _ := strings.Cut(s.Text(), " ")
		results[name] = result
	}
	if complaints.Len() > 0 {
		t.Logf("stderr of the child: %.2000s", &complaints)
	}
	return results, end
}
