package main

import (
	"strings"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
)

func newPort(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "port",
		Short: "Interfaces that chains take packets from and send them to",
		Example: `  sfcctl port attach eth1 --peer eth2 --mode inline
  sfcctl port describe eth1`,
	}
	cmd.AddCommand(newPortAttach(e), newPortDetach(e), newPortList(e), newPortDescribe(e))
	return cmd
}

func newPortAttach(e env) *cobra.Command {
	r := remote{e: e}
	var spec api.PortSpec
	var name, peer string
	cmd := &cobra.Command{
		Use:   "attach INTERFACE",
		Short: "Let chains use an interface",
		Long: `Puts the steering program on an interface, by name or PCI address. Packets that no
chain claims go on as before: to the kernel's stack, or with --peer to the other
interface of the pair, as on a wire; ARP, neighbour discovery and management
traffic are among them.

With --peer both interfaces are attached, each with the other as its peer. With
--mode routed, frames that leave get the addresses of their next hop by the host's
routes; inline they keep those they came with.

An interface that is the only way to the host is refused unless --force is given.`,
		Example: `  sfcctl port attach eth1 --peer eth2 --mode inline
  sfcctl port attach 0000:3b:00.0 --name uplink --mode routed`,
		Args: needArgs(1, 1, "an interface's name or PCI address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			if name == "" {
				name = args[0]
			}
			one := api.Port{Metadata: api.Metadata{Name: name}, Spec: spec}
			if strings.Contains(args[0], ":") {
				one.Spec.PCIAddress = args[0]
			} else if args[0] != name {
				one.Spec.Interface = args[0]
			}
			list := []api.Port{one}
			if peer != "" {
				if spec.Unmatched == "" {
					list[0].Spec.Unmatched = api.UnmatchedForward
				}
				other := api.Port{Metadata: api.Metadata{Name: peer}, Spec: list[0].Spec}
				list[0].Spec.Peer = peer
				other.Spec.Peer, other.Spec.Interface, other.Spec.PCIAddress = name, "", ""
				list = append(list, other)
			}
			for i := range list {
				p := &list[i]
				made, err := c.Ports().Create(cmd.Context(), p)
				err = cured(err, api.ReasonExists, "sfcctl port detach %s, and attach it anew", p.Metadata.Name)
				if err := r.done(made, err, ""); err != nil {
					return err
				}
			}
			return waitPorts(cmd, c, &r, list)
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "what chains call it (default: the interface's name)")
	f.StringVar(&peer, "peer", "", "the other interface of a pair, which is attached too")
	f.StringVar(&spec.Mode, "mode", "", "inline or routed (default: inline)")
	f.StringVar(&spec.Unmatched, "unmatched", "", "what becomes of packets that no chain claims: pass, forward or drop (default: forward with --peer, else pass)")
	f.StringVar(&spec.Attach, "attach", "", "how the steering program sits there: auto, native or generic (default: auto)")
	f.IntVar(&spec.Queues, "queues", 0, "receive queues to serve (default: all)")
	f.StringSliceVar(&spec.Tenants, "tenants", nil, "tenants that may use it (default: all)")
	f.BoolVar(&spec.Force, "force", false, "also if it is the only way to the host")
	return cmd
}

func newPortDetach(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "detach PORT...",
		Short:             "Take ports away from chains; the interfaces are as before",
		Example:           "  sfcctl port detach eth1 eth2",
		Args:              needArgs(1, -1, "ports"),
		ValidArgsFunction: completeNames(true, r.portNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := r.done(nil, c.Ports().Delete(cmd.Context(), name, ""), "port %s detached", name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	r.serverFlag(cmd)
	return cmd
}

func newPortList(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List ports",
		Example: "  sfcctl port list",
		Args:    needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			list, err := c.Ports().All(cmd.Context())
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			w := newTable(e.stdout)
			w.row("PORT", "INTERFACE", "UP", "XDP", "SOCKETS", "QUEUES", "MODE", "UNMATCHED", "PEER", "READY")
			for i := range list.Items {
				p := &list.Items[i]
				ready, why := conditionText(p.Status.Conditions)
				w.row(p.Metadata.Name, p.Status.Interface, yesNo(p.Status.Up), p.Status.Attach, p.Status.Bind, p.Status.Queues,
					p.Spec.Mode, p.Spec.Unmatched, p.Spec.Peer, strings.TrimSpace(ready+" "+why))
			}
			return w.flush()
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}

func newPortDescribe(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "describe PORT",
		Short:             "Show a port, what its driver can, and what was changed on it",
		Example:           "  sfcctl port describe eth1",
		Args:              needArgs(1, 1, "a port"),
		ValidArgsFunction: completeNames(false, r.portNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			p, err := c.Ports().Get(cmd.Context(), args[0])
			if err != nil || r.json {
				return r.done(p, err, "")
			}
			w := newTable(e.stdout)
			w.row("Port:", p.Metadata.Name)
			w.row("Interface:", p.Status.Interface)
			w.row("Mode:", p.Spec.Mode)
			w.row("Unmatched:", p.Spec.Unmatched)
			w.row("Peer:", p.Spec.Peer)
			w.row("Tenants:", strings.Join(p.Spec.Tenants, ", "))
			w.row("Up:", yesNo(p.Status.Up))
			w.row("XDP:", p.Status.Attach)
			w.row("Sockets:", p.Status.Bind)
			w.row("Queues:", p.Status.Queues)
			if k := p.Status.Capabilities; k != nil {
				w.row("Driver:", k.Driver)
				w.row("PCI address:", k.PCIAddress)
				w.row("Hardware address:", k.MAC)
				w.row("MTU:", k.MTU)
				w.row("Native XDP:", yesNo(k.Native))
				w.row("Zero copy:", yesNo(k.ZeroCopy))
				w.row("Queues to be had:", k.Queues)
				w.row("Offloads changed:", strings.Join(k.OffloadsChanged, ", "))
				w.row("Way to the host:", yesNo(k.Management))
				for _, note := range k.Notes {
					w.row("Note:", note)
				}
			}
			printConditions(w, p.Status.Conditions)
			return w.flush()
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}
