package api

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
)

// MaxName is the longest name, in bytes.
const MaxName = 63

var (
	nameRE    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	ifaceRE   = regexp.MustCompile(`^[^\s/:]{1,15}$`)
	pciRE     = regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]$`)
	versionRE = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
		`(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
		`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`) // semver.org, version 2.0.0
)

const nameRule = "1 to 63 lower-case letters, digits and hyphens are expected, a letter or digit first and last"

// IsName says whether s can be a name: an RFC 1123 label.
func IsName(s string) bool { return nameRE.MatchString(s) }

// IsVersion says whether s is a semantic version of at most 63 characters.
func IsVersion(s string) bool { return len(s) <= MaxName && versionRE.MatchString(s) }

// checks collects what is wrong.
type checks []FieldError

func (c *checks) fail(field, format string, args ...any) {
	*c = append(*c, At(field, format, args...))
}

func (c *checks) name(field, s string) {
	if !IsName(s) {
		c.fail(field, "%q is no name: %s", clip(s), nameRule)
	}
}

// oneOf takes an empty s for the default.
func (c *checks) oneOf(field, s string, words ...string) {
	if s != "" && !slices.Contains(words, s) {
		c.fail(field, "%q is unknown: one of %q is expected", clip(s), words)
	}
}

// header checks what all objects have.
func header(o Object) checks {
	var c checks
	t, m := o.Header()
	if t.APIVersion != "" && t.APIVersion != Version {
		c.fail("apiVersion", "%q is not served: %s is", clip(t.APIVersion), Version)
	}
	if t.Kind != "" && t.Kind != o.KindName() {
		c.fail("kind", "%q does not belong here: %s does", clip(t.Kind), o.KindName())
	}
	c.name("metadata.name", m.Name)
	if m.Tenant != "" {
		c.name("metadata.tenant", m.Tenant)
	}
	return c
}

// Validate implements Object.
func (o *Tenant) Validate() []FieldError {
	c := header(o)
	if o.Metadata.Name == "system" {
		c.fail("metadata.name", "system is the daemon's own: take another name")
	}
	if o.Spec.Share < 0 || o.Spec.Share > 1000 {
		c.fail("spec.share", "%v is not between 0%% and 100%%", o.Spec.Share)
	}
	for _, q := range []struct {
		field string
		n     int64
	}{
		{"memory", int64(o.Spec.Memory)}, {"flows", int64(o.Spec.Flows)}, {"chains", int64(o.Spec.Chains)}, {"modules", int64(o.Spec.Modules)},
		{"moduleBytes", int64(o.Spec.ModuleBytes)}, {"logLines", int64(o.Spec.LogLines)}, {"apiCalls", int64(o.Spec.APICalls)},
	} {
		if q.n < 0 {
			c.fail("spec."+q.field, "%d is negative: leave it out for what is usual", q.n)
		}
	}
	if o.Spec.LogLines > MaxTenantLogLines {
		c.fail("spec.logLines", "%d is more than %d lines a second", int64(o.Spec.LogLines), MaxTenantLogLines)
	}
	return c
}

// Validate implements Object.
func (o *Token) Validate() []FieldError {
	c := header(o)
	if o.Spec.Role.rank() == 0 {
		c.fail("spec.role", "%q is unknown: admin, deployer or viewer is expected", clip(string(o.Spec.Role)))
	}
	return c
}

// Validate implements Object.
func (o *Key) Validate() []FieldError {
	c := header(o)
	if raw, err := base64.StdEncoding.Strict().DecodeString(o.Spec.PublicKey); err != nil || len(raw) != 32 {
		c.fail("spec.publicKey", "it is no ed25519 public key: 32 bytes in base64 are expected")
	}
	return c
}

// Validate implements Object.
func (o *Function) Validate() []FieldError {
	c := header(o)
	if !IsVersion(o.Spec.Version) {
		c.fail("spec.version", "%q is no version: write it as 1.2.0", clip(o.Spec.Version))
	}
	return c
}

// Validate implements Object.
func (o *Alias) Validate() []FieldError {
	c := header(o)
	if IsVersion(o.Metadata.Name) {
		c.fail("metadata.name", "%q is a version: an alias must not look like one", o.Metadata.Name)
	}
	c.name("spec.function", o.Spec.Function)
	if !IsVersion(o.Spec.Version) {
		c.fail("spec.version", "%q is no version: write it as 1.2.0", clip(o.Spec.Version))
	}
	if k := o.Spec.Canary; k != nil {
		if !IsVersion(k.Version) {
			c.fail("spec.canary.version", "%q is no version: write it as 1.2.0", clip(k.Version))
		} else if k.Version == o.Spec.Version {
			c.fail("spec.canary.version", "%q is what the alias stands for: a canary is another version", k.Version)
		}
		if k.Percent < 1 || k.Percent > 99 {
			c.fail("spec.canary.percent", "%d is not between 1 and 99", k.Percent)
		}
	}
	return c
}

// Validate implements Object.
func (o *Port) Validate() []FieldError {
	c := header(o)
	s := &o.Spec
	if s.Interface != "" && (!ifaceRE.MatchString(s.Interface) || s.Interface == "." || s.Interface == "..") {
		c.fail("spec.interface", "%q is no name of an interface: 1 to 15 characters without spaces, slashes and colons are expected", clip(s.Interface))
	}
	if s.PCIAddress != "" && !pciRE.MatchString(s.PCIAddress) {
		c.fail("spec.pciAddress", "%q is no PCI address: write it as 0000:3b:00.0", clip(s.PCIAddress))
	}
	if s.Interface != "" && s.PCIAddress != "" {
		c.fail("spec.pciAddress", "the interface is given too: keep one of the two")
	}
	if s.Peer != "" {
		c.name("spec.peer", s.Peer)
		if s.Peer == o.Metadata.Name {
			c.fail("spec.peer", "%q is the port itself: name the other one", s.Peer)
		}
	}
	c.oneOf("spec.mode", s.Mode, ModeInline, ModeRouted)
	c.oneOf("spec.unmatched", s.Unmatched, UnmatchedPass, UnmatchedForward, UnmatchedDrop)
	c.oneOf("spec.attach", s.Attach, AttachAuto, AttachNative, AttachGeneric)
	if s.Unmatched == UnmatchedForward && s.Peer == "" {
		c.fail("spec.peer", "forward has nowhere to go: name the peer")
	}
	if s.Mode == ModeRouted && s.Unmatched != "" && s.Unmatched != UnmatchedPass {
		c.fail("spec.unmatched", "on a routed port it is pass: the kernel answers and asks for hardware addresses there")
	}
	if s.Queues < 0 || s.Queues > 1024 {
		c.fail("spec.queues", "%d is not between 0 (all) and 1024", s.Queues)
	}
	if len(s.Tenants) > 1024 {
		c.fail("spec.tenants", "there are %d: at most 1024 can be named; leave it out for all", len(s.Tenants))
	}
	for i, t := range s.Tenants {
		if !IsName(t) {
			c.fail(fmt.Sprintf("spec.tenants[%d]", i), "%q is no name: %s", clip(t), nameRule)
		}
	}
	return c
}

// Validate implements Object. What is in the spec is chains.Parse's to judge
// (see Document); here is what only the daemon knows.
func (o *Chain) Validate() []FieldError {
	c := header(o)
	for i, f := range o.Spec.Functions {
		if _, _, ok := SplitRef(f.Module); !ok {
			c.fail(fmt.Sprintf("spec.functions[%d].module", i), "%q names no module: write function@version, function@alias or sha256:DIGEST", clip(f.Module))
		}
	}
	return c
}
