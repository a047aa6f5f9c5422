package netns

import (
	"fmt"
	"strings"

	"github.com/safchain/ethtool"
)

// disableOffloads turns off whatever would make a frame differ between the two
// ends. It runs inside the link's namespace.
func (l *Link) disableOffloads() error {
	return l.changeOffloads(alters, false)
}

// changeOffloads turns features on or off that match and are not so yet.
func (l *Link) changeOffloads(match func(feature string) bool, on bool) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("open ethtool socket: %w", err)
	}
	defer e.Close()
	have, err := e.FeaturesWithState(l.Name)
	if err != nil {
		return fmt.Errorf("read offloads of %s: %w", l.Name, err)
	}
	change := map[string]bool{}
	for name, state := range have {
		if match(name) && state.Available && !state.NeverChanged && state.Active != on {
			change[name] = on
		}
	}
	if len(change) == 0 {
		return nil
	}
	if err := e.Change(l.Name, change); err != nil {
		return fmt.Errorf("change offloads of %s: %w", l.Name, err)
	}
	return nil
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
