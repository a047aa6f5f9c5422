// Package confine takes from a process what it does not need: identity,
// capabilities, system calls, limits. What is taken does not come back.
//
// It happens in two steps, since credentials belong to threads and a Go process
// has several before its first line runs:
//
//	Start   in the parent: the child begins with another user, no capability,
//	        an empty bounding set, and no way to new privileges (exec(2) of a
//	        setuid program included)
//	Seal    in the child, when it is set up: limits, no core dumps, and a
//	        seccomp filter for all its threads at once
//
// See credentials(7), capabilities(7), seccomp(2).
package confine

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// ServiceUser is whom the daemon's children run as where the system has it.
const ServiceUser = "sfc"

// nobody has this number everywhere (the kernel's overflowuid).
const nobody = 65534

// Identity is a user and a group, without any others.
type Identity struct{ UID, GID int }

// LookupIdentity returns the identity of a user by name. Empty: ServiceUser, and
// nobody where the system has no such user.
func LookupIdentity(name string) (Identity, error) {
	asked := name != ""
	if !asked {
		name = ServiceUser
	}
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown && !asked {
		return Identity{nobody, nobody}, nil
	}
	if err != nil {
		return Identity{}, fmt.Errorf("user %s: %w: make it with useradd --system %s", name, err, name)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return Identity{}, fmt.Errorf("user %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return Identity{}, fmt.Errorf("user %s: %w", name, err)
	}
	return Identity{uid, gid}, nil
}
