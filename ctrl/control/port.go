package control

import (
	"context"
	"fmt"
	"strings"

	"sfc/ctrl/api"
	"sfc/ctrl/ports"
)

// hostPort finds the interface of a port, says what it can, and refuses what
// chains cannot or must not use.
func hostPort(_ context.Context, p *api.Port) (string, *api.PortCapabilities, error) {
	ref := p.Spec.Interface
	if p.Spec.PCIAddress != "" {
		ref = p.Spec.PCIAddress
	}
	if ref == "" {
		ref = p.Metadata.Name
	}
	i, err := ports.Find(ref)
	if err != nil {
		return "", nil, err
	}
	if err := i.Fit(); err != nil {
		return "", nil, err
	}
	unsafe := ports.Management(i)
	if unsafe != nil && !p.Spec.Force {
		return "", nil, unsafe
	}
	c := &api.PortCapabilities{
		Driver: i.Driver, PCIAddress: i.PCI, MAC: i.Address, MTU: i.MTU,
		Native: i.XDP.Native, ZeroCopy: i.XDP.ZeroCopy, Queues: i.MaxQueues, Management: unsafe != nil,
	}
	for _, o := range i.Offloads {
		c.OffloadsChanged = append(c.OffloadsChanged, o+": off")
	}
	if !i.XDP.Known {
		c.Notes = append(c.Notes, "this kernel does not say what the driver can do with XDP: attaching shows it")
	}
	if len(i.Fixed) > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("the driver keeps %s on: frames may arrive changed", strings.Join(i.Fixed, ", ")))
	}
	if i.VLAN > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("VLAN %d of %s", i.VLAN, i.Parent))
	}
	return i.Name, c, nil
}
