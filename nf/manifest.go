package nf

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Bounds of a manifest.
const (
	// ManifestMax is the longest manifest in bytes.
	ManifestMax = 256 << 10
	// MaxFlowState is the most bytes of state per flow.
	MaxFlowState = 4096
	// MaxDropReasons is the most drop reasons of one function.
	MaxDropReasons = 63
	// CapabilityLog allows the import sfc.log.
	CapabilityLog = "log"
	// CapabilityBind allows the imports sfc.flow_bind, sfc.claim and
	// sfc.claim_find: to give a flow further tuples and exclusive keys.
	CapabilityBind = "flow_bind"

	// CapabilityEmit allows the import sfc.emit.
	CapabilityEmit = "emit"

	maxLabel = 63 // characters of a name, counter or drop reason
)

// Capabilities are what a manifest may ask for.
var Capabilities = []string{CapabilityLog, CapabilityBind, CapabilityEmit}

// Manifest is what a function says about itself in the custom section
// [ManifestSection], as JSON. Name, version and abi must be given.
type Manifest struct {
	// Name is an RFC 1123 label: lower-case letters, digits and hyphens.
	Name string
	// Version is a semantic version, without a leading v.
	Version string
	// ABI is [ABIVersion].
	ABI int
	// FlowStateBytes is the size of the function's state per flow, a multiple
	// of 8 up to [MaxFlowState]; 0 when it keeps none.
	FlowStateBytes int
	// FlowStateWhen says when there is that state: when each of these fields
	// of the configuration is given and is this string. Empty: always.
	FlowStateWhen map[string]string
	// FlowStateLayout names what the bytes of that state mean, such as
	// "firewall/2": versions of a function with equal names and sizes take
	// over each other's state as it is. Empty: the module's name stands for
	// it.
	FlowStateLayout string
	// LiveConfigure says that sfc_configure may be called again on an instance
	// that serves packets.
	LiveConfigure bool
	// BothDirections says that both directions of a flow must reach the same
	// instance and state.
	BothDirections bool
	// Counters names the first counters of the counters page, in order.
	Counters []string
	// DropReasons names the numbers that the function writes into a
	// descriptor's reason, from 1.
	DropReasons []string
	// ConfigSchema is the JSON Schema of the configuration; nil when the
	// function takes none.
	ConfigSchema json.RawMessage
	// Records are the layouts of what the function emits.
	Records []RecordLayout
	// Capabilities are the imports the function asks for by kind.
	Capabilities []string

	schema *configSchema
}

var (
	labelRE   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	metricRE  = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
	layoutRE  = regexp.MustCompile(`^[a-z0-9][a-z0-9./_-]{0,62}$`)
	versionRE = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
		`(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
		`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`) // semver.org, version 2.0.0
)

// ParseManifest reads a manifest strictly: an unknown field, a wrong type, a
// missing or repeated field and a value outside its bounds are errors, all of
// them reported. They wrap [ErrManifest]; a manifest of another ABI version
// gives only that, as [ErrABI].
func ParseManifest(data []byte) (*Manifest, error) {
	if len(data) > ManifestMax {
		return nil, &Refusal{ErrManifest, fmt.Sprintf("manifest of %d bytes", len(data)), fmt.Sprintf("at most %d are allowed", ManifestMax)}
	}
	if _, err := scanJSON(data, "manifest", ErrManifest); err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil || fields == nil {
		return nil, &Refusal{ErrManifest, fmt.Sprintf("manifest: %s is not an object", abbreviate(string(data))), `e.g. {"name": "acl", "version": "1.0.0", "abi": 1}`}
	}
	m := &Manifest{}
	d := manifestDecoder{fields: fields}
	decodeField(&d, "abi", "an integer", true, &m.ABI)
	if len(d.errs) == 0 && m.ABI != ABIVersion {
		return nil, &Refusal{ErrABI, fmt.Sprintf("manifest: abi %d", m.ABI), fmt.Sprintf("this engine runs ABI version %d: build with its SDK", ABIVersion)}
	}
	decodeField(&d, "name", "a string", true, &m.Name)
	decodeField(&d, "version", "a string", true, &m.Version)
	decodeField(&d, "flow_state_bytes", "an integer", false, &m.FlowStateBytes)
	decodeField(&d, "flow_state_when", "an object of strings", false, &m.FlowStateWhen)
	decodeField(&d, "flow_state_layout", "a string", false, &m.FlowStateLayout)
	decodeField(&d, "live_configure", "true or false", false, &m.LiveConfigure)
	decodeField(&d, "both_directions", "true or false", false, &m.BothDirections)
	decodeField(&d, "counters", "an array of strings", false, &m.Counters)
	decodeField(&d, "drop_reasons", "an array of strings", false, &m.DropReasons)
	decodeField(&d, "config_schema", "a JSON Schema", false, &m.ConfigSchema)
	decodeField(&d, "records", "an array of {name, fields: [{name, type, offset}]}", false, (*recordLayouts)(&m.Records))
	decodeField(&d, "capabilities", "an array of strings", false, &m.Capabilities)
	d.unknown()
	if len(d.errs) == 0 {
		d.check(m)
	}
	if len(d.errs) > 0 {
		return nil, errors.Join(d.errs...)
	}
	return m, nil
}

type manifestDecoder struct {
	fields map[string]json.RawMessage
	known  []string
	errs   []error
}

func (d *manifestDecoder) refuse(cure, format string, args ...any) {
	d.errs = append(d.errs, &Refusal{ErrManifest, "manifest: " + fmt.Sprintf(format, args...), cure})
}

// decodeField decodes one field into value; want says what its type is.
func decodeField[T any](d *manifestDecoder, name, want string, required bool, value *T) {
	d.known = append(d.known, name)
	raw, ok := d.fields[name]
	switch {
	case !ok && required:
		d.refuse("add it: "+want, "no field %q", name)
	case !ok:
	case string(raw) == "null" || json.Unmarshal(raw, value) != nil || hasNull(raw):
		d.refuse("give "+want, "%s is %s", name, abbreviate(string(raw)))
	}
}

// hasNull reports whether raw is an array of strings with a null, which the decoder
// would take for an empty string.
func hasNull(raw json.RawMessage) bool {
	var elems []*string
	return json.Unmarshal(raw, &elems) == nil && slices.Contains(elems, nil)
}

func (d *manifestDecoder) unknown() {
	for _, name := range slices.Sorted(maps.Keys(d.fields)) {
		if !slices.Contains(d.known, name) {
			d.refuse(suggest(name, d.known), "unknown field %q", abbreviate(name))
		}
	}
}

// check checks the values of a manifest whose fields have the right types.
func (d *manifestDecoder) check(m *Manifest) {
	if !labelRE.MatchString(m.Name) {
		d.refuse("use 1 to 63 lower-case letters, digits and hyphens, no hyphen at the ends (RFC 1123)", "name %q", abbreviate(m.Name))
	}
	if len(m.Version) > 128 || !versionRE.MatchString(m.Version) {
		d.refuse("use a semantic version such as 1.0.0", "version %q", abbreviate(m.Version))
	}
	if m.FlowStateBytes < 0 || m.FlowStateBytes > MaxFlowState || m.FlowStateBytes%8 != 0 {
		d.refuse(fmt.Sprintf("use a multiple of 8 from 0 to %d", MaxFlowState), "flow_state_bytes %d", m.FlowStateBytes)
	}
	d.checkFlowState(m)
	d.checkRecords(m)
	d.names("counters", m.Counters, NumCounters)
	d.names("drop_reasons", m.DropReasons, MaxDropReasons)
	for i, c := range m.Capabilities {
		if !slices.Contains(Capabilities, c) {
			d.refuse(suggest(c, Capabilities), "capabilities[%d]: unknown capability %q", i, abbreviate(c))
		} else if slices.Index(m.Capabilities, c) < i {
			d.refuse("name each once", "capabilities[%d]: %q twice", i, c)
		}
	}
	if m.ConfigSchema != nil {
		var err error
		if m.schema, err = compileSchema(m.ConfigSchema); err != nil {
			d.errs = append(d.errs, err)
		}
	}
}

// names checks a list of metric labels.
func (d *manifestDecoder) names(field string, names []string, most int) {
	if len(names) > most {
		d.refuse(fmt.Sprintf("at most %d are allowed", most), "%s: %d names", field, len(names))
		return
	}
	seen := map[string]bool{}
	for i, n := range names {
		if !metricRE.MatchString(n) {
			d.refuse(fmt.Sprintf("use 1 to %d of a-z, 0-9 and _", maxLabel), "%s[%d] %q", field, i, abbreviate(n))
		} else if seen[n] {
			d.refuse("name each once", "%s[%d]: %q twice", field, i, n)
		}
		seen[n] = true
	}
}
