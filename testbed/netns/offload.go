package netns

import (
	"strings"

	"sfc/dataplane/ethtool"
)

// disableOffloads turns off whatever would make a frame differ between the two
// ends. It runs inside the link's namespace.
func (l *Link) disableOffloads() error {
	return l.changeOffloads(alters, false)
}

// changeOffloads turns features on or off that match and are not so yet.
func (l *Link) changeOffloads(match func(feature string) bool, on bool) error {
	c, err := ethtool.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	have, err := c.Features(l.Name)
	if err != nil {
		return err
	}
	change := map[string]bool{}
	for name, f := range have {
		if match(name) && !f.Fixed && f.On != on {
			change[name] = on
		}
	}
	return c.SetFeatures(l.Name, change)
}

// alters says whether a feature lets a frame be split, merged, or sent with an
// unfinished checksum or its VLAN tag apart. Names as in ethtool -k.
func alters(feature string) bool {
	switch {
	case strings.HasSuffix(feature, "-segmentation"),
		strings.HasPrefix(feature, "tx-checksum-"),
		strings.HasPrefix(feature, "tx-gso-"),
		strings.HasPrefix(feature, "tx-vlan-"),
		strings.HasPrefix(feature, "rx-vlan-") && strings.HasSuffix(feature, "-parse"),
		strings.HasPrefix(feature, "rx-gro"),
		feature == "tx-generic-segmentation",
		feature == "rx-checksum",
		feature == "rx-lro":
		return true
	}
	return false
}
