package server

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/api"
)

// principal is who a request comes from.
type principal struct {
	name    string // as in the audit log
	tenant  string // "" sees all
	role    api.Role
	expires time.Time
	root    bool // by the unix socket: not limited in rate
	calls   int  // of the tenant per second, 0 for no limit
}

// connKey is the context's key of the peer at a connection.
type connKey struct{}

// peer is what is known of the other end of a connection.
type peer struct {
	who  *principal // nil: by token only
	from string     // address of a TCP client
}

// withPeer finds out who is at the other end of a connection. The credentials
// are those of connect(2), so they are asked for once.
func (s *Server) withPeer(ctx context.Context, c net.Conn) context.Context {
	p := &peer{}
	if local, ok := c.(*unixConn); ok {
		who, err := s.unixPeer(local.UnixConn)
		if err != nil {
			s.log.Warn("a peer of the unix socket is unknown", "err", err)
		}
		p.who = who
	} else if host, _, err := net.SplitHostPort(c.RemoteAddr().String()); err == nil {
		p.from = host
	}
	return context.WithValue(ctx, connKey{}, p)
}

// unixPeer returns who is at the other end of a unix socket; nil for somebody
// who may not come in without a token.
func (s *Server) unixPeer(c *net.UnixConn) (*principal, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var groups []uint32
	cerr := raw.Control(func(fd uintptr) {
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			groups, err = peerGroups(int(fd))
		}
	})
	if cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("unix:uid=%d", cred.Uid)
	if cred.Uid == 0 || cred.Uid == s.uid {
		return &principal{name: name, role: api.Admin, root: true}, nil
	}
	g, ok := s.bestGrant(append(groups, cred.Gid))
	if !ok {
		return nil, nil
	}
	return &principal{name: name, tenant: g.Tenant, role: g.Role}, nil
}

// bestGrant returns what members of groups may do: of several grants one for the
// host before one for a tenant, then the highest role, then the first group.
func (s *Server) bestGrant(groups []uint32) (best Grant, ok bool) {
	slices.Sort(groups)
	for _, id := range groups {
		g, has := s.opts.Groups[id]
		switch {
		case !has:
		case !ok, g.Tenant == "" && best.Tenant != "",
			g.Tenant == best.Tenant && !best.Role.Includes(g.Role):
			best, ok = g, true
		}
	}
	return best, ok
}
