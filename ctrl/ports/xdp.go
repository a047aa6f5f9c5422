package ports

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// XDP is what an interface's driver says it can do with XDP. Drivers tell since
// Linux 6.3: before, Known is false and only trying shows.
type XDP struct {
	Known bool
	// Native: programs run in the driver. Redirect: they may send frames
	// elsewhere, AF_XDP sockets included. Target: frames of others may be sent
	// out here (ndo_xdp_xmit). ZeroCopy: AF_XDP without copying.
	Native, Redirect, Target, ZeroCopy bool
	// Fragments: frames in several buffers are shown (rx-sg).
	Fragments bool
}

// The generic netlink family netdev of linux/netdev.h.
const (
	netdevFamily  = "netdev"
	netdevVersion = 1
	cmdDevGet     = 1

	attrIfindex  = 1
	attrFeatures = 3

	featureBasic    = 1 << 0
	featureRedirect = 1 << 1
	featureXmit     = 1 << 2
	featureZeroCopy = 1 << 3
	featureRxSG     = 1 << 5
)

// genlHeader is struct genlmsghdr: command, version and two zeros. The library's
// own takes the zeros from behind its struct, and the kernel refuses others.
type genlHeader [4]byte

func (genlHeader) Len() int            { return 4 }
func (h genlHeader) Serialize() []byte { return h[:] }

// askXDP asks the kernel what the driver can.
func (i *Interface) askXDP() error {
	family, err := netlink.GenlFamilyGet(netdevFamily)
	if errors.Is(err, unix.ENOENT) {
		return nil // an older kernel
	}
	if err != nil {
		return fmt.Errorf("ask for XDP features: %w", err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(genlHeader{cmdDevGet, netdevVersion})
	req.AddData(nl.NewRtAttr(attrIfindex, nl.Uint32Attr(uint32(i.Index))))
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return fmt.Errorf("ask for XDP features of %s: %w", i.Name, err)
	}
	for _, m := range msgs {
		if len(m) < nl.SizeofGenlmsg {
			return fmt.Errorf("XDP features of %s: answer of %d bytes", i.Name, len(m))
		}
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
		if err != nil {
			return fmt.Errorf("XDP features of %s: %w", i.Name, err)
		}
		for _, a := range attrs {
			if a.Attr.Type&nl.NLA_TYPE_MASK == attrFeatures && len(a.Value) >= 8 {
				f := nl.NativeEndian().Uint64(a.Value)
				i.XDP = XDP{
					Known: true, Native: f&featureBasic != 0, Redirect: f&featureRedirect != 0,
					Target: f&featureXmit != 0, ZeroCopy: f&featureZeroCopy != 0, Fragments: f&featureRxSG != 0,
				}
			}
		}
	}
	return nil
}
