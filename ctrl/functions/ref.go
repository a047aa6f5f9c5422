package functions

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// digestPrefix begins a digest where it stands for a module.
const digestPrefix = "sha256:"

var (
	labelRE   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	versionRE = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
		`(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
		`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`) // semver.org, version 2.0.0
)

// Ref is how a chain names a function. One of Digest, Version and Alias is set;
// Name is, unless Digest is.
type Ref struct {
	Name, Version, Alias string
	Digest               string // 64 hexadecimal digits
}

// ParseRef reads name@version, name@alias or sha256:digest. No alias can be
// taken for a version: versions have dots, aliases have none. A bare name is
// refused: which version it meant would change with the next upload.
func ParseRef(text string) (Ref, error) {
	if digest, ok := strings.CutPrefix(text, digestPrefix); ok {
		if !isDigest(digest) {
			return Ref{}, fmt.Errorf("function %.100q: %w: 64 hexadecimal digits in lower case are expected behind %s", text, ErrName, digestPrefix)
		}
		return Ref{Digest: digest}, nil
	}
	name, what, _ := strings.Cut(text, "@")
	r := Ref{Name: name}
	switch {
	case !labelRE.MatchString(name):
		return Ref{}, fmt.Errorf("function %.100q: %w: write name@version, name@alias or %sDIGEST; names have 1 to 63 lower-case letters, digits and hyphens",
			text, ErrName, digestPrefix)
	case isVersion(what):
		r.Version = what
	case labelRE.MatchString(what):
		r.Alias = what
	default:
		return Ref{}, fmt.Errorf("function %.100q: %w: %.80q is neither a version, as 1.2.0, nor an alias, as prod", text, ErrName, what)
	}
	return r, nil
}

// String returns the reference as ParseRef reads it.
func (r Ref) String() string {
	switch {
	case r.Digest != "":
		return digestPrefix + r.Digest
	case r.Version != "":
		return r.Name + "@" + r.Version
	}
	return r.Name + "@" + r.Alias
}

func isVersion(s string) bool { return len(s) <= 128 && versionRE.MatchString(s) }

func isDigest(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 64 && strings.ToLower(s) == s
}

// Target is what an alias is to stand for: a version, or a version under trial
// for some of the flows.
type Target struct {
	Version string
	// Percent of the flows that meet Version, while the others stay with what
	// the alias stands for; 0: all flows, no trial.
	Percent int
}

// ParseAssignment reads alias=version or alias=version@percent%, such as
// prod=1.2.0 or prod=1.3.0@10%.
func ParseAssignment(text string) (alias string, t Target, err error) {
	alias, version, ok := strings.Cut(text, "=")
	version, trial, canary := strings.Cut(version, "@")
	percent, sign := strings.CutSuffix(trial, "%")
	if canary {
		t.Percent, err = strconv.Atoi(percent)
	}
	switch {
	case !ok:
		return "", t, fmt.Errorf("alias %.80q: %w: write ALIAS=VERSION or ALIAS=VERSION@PERCENT%%, as prod=1.3.0@10%%", text, ErrName)
	case !labelRE.MatchString(alias):
		return "", t, fmt.Errorf("alias %.80q: %w: use 1 to 63 lower-case letters, digits and hyphens", alias, ErrName)
	case !isVersion(version):
		return "", t, fmt.Errorf("version %.80q: %w: use a semantic version, as 1.2.0", version, ErrName)
	case canary && (err != nil || !sign || t.Percent < 1 || t.Percent > 99):
		return "", t, fmt.Errorf("canary %.20q: %w: write 1%% to 99%%", trial, ErrCanary)
	}
	t.Version = version
	return alias, t, nil
}

// Resolution is what a reference stands for at a moment.
type Resolution struct {
	// Function is the version. Not to be changed.
	Function *api.Function
	// Canary is the version under trial, nil for none, which Percent of the
	// flows meet.
	Canary  *api.Function
	Percent int
}

// catalog is where references are looked up. What is not there is
// store.ErrNotFound.
type catalog interface {
	version(name, version string) (*api.Function, error)
	alias(name, alias string) (*api.Alias, error)
	digest(digest string) (*api.Function, error)
}

// resolve looks a reference up.
func resolve(c catalog, r Ref) (Resolution, error) {
	switch {
	case r.Digest != "":
		f, err := c.digest(r.Digest)
		if err != nil {
			return Resolution{}, missing("no module %s%s", digestPrefix, r.Digest, err)
		}
		return Resolution{Function: f}, nil
	case r.Version != "":
		f, err := c.version(r.Name, r.Version)
		if err != nil {
			return Resolution{}, missing("no version %s of function %s", r.Version, r.Name, err)
		}
		return Resolution{Function: f}, nil
	}
	a, err := c.alias(r.Name, r.Alias)
	if err != nil {
		return Resolution{}, missing("no alias %s of function %s", r.Alias, r.Name, err)
	}
	res := Resolution{}
	if res.Function, err = c.version(r.Name, a.Spec.Version); err != nil {
		return Resolution{}, missing("alias %s stands for %s, which is not there", r.String(), a.Spec.Version, err)
	}
	if c2 := a.Spec.Canary; c2 != nil {
		if res.Canary, err = c.version(r.Name, c2.Version); err != nil {
			return Resolution{}, missing("alias %s has canary %s, which is not there", r.String(), c2.Version, err)
		}
		res.Percent = c2.Percent
	}
	return res, nil
}

// missing says what is not there.
func missing(format, a, b string, err error) error {
	return fmt.Errorf(format+": %w: deploy it or name another", a, b, err)
}

// Resolve says what a reference stands for now.
func (s *Store) Resolve(text string) (Resolution, error) {
	r, err := ParseRef(text)
	if err != nil {
		return Resolution{}, err
	}
	return resolve(s, r)
}

func (s *Store) version(name, version string) (*api.Function, error) {
	return get[api.Function](s.functions, name+"/"+version)
}

func (s *Store) alias(name, alias string) (*api.Alias, error) {
	return get[api.Alias](s.aliases, name+"/"+alias)
}

func (s *Store) digest(digest string) (*api.Function, error) {
	all, err := list[api.Function](s.functions, "")
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if f.Spec.Digest == digestPrefix+digest {
			return f, nil
		}
	}
	return nil, store.ErrNotFound
}
