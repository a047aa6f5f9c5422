package ethtool

// Altering are the offloads that change frames before XDP sees them: tags taken
// off, segments merged beyond a chunk (by GRO with generic attach only), VLANs
// filtered. Names as in ethtool -k, sorted. Not to be changed.
var Altering = []string{
	"rx-gro",
	"rx-gro-hw",
	"rx-gro-list",
	"rx-lro",
	"rx-udp-gro-forwarding",
	"rx-vlan-filter",
	"rx-vlan-hw-parse",
	"rx-vlan-stag-hw-parse",
}
