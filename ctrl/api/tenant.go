package api

import "time"

// Tenant is who owns functions and chains, and how much of the host it may use.
type Tenant struct {
	Type     `json:",inline"`
	Metadata Metadata     `json:"metadata"`
	Spec     TenantSpec   `json:"spec"`
	Status   TenantStatus `json:"status,omitzero"`
}

// What a tenant may use when its spec does not say: of chains a quarter of the
// 1,024 that a host has room for, of log lines what somebody can read.
const (
	DefaultTenantChains   = 256
	DefaultTenantLogLines = 100
	// MaxTenantLogLines is the most lines per second that a spec may say.
	MaxTenantLogLines = 1_000_000
)

// TenantSpec is what a tenant may use. What is left out is not limited, unless its
// field says otherwise.
type TenantSpec struct {
	// Share is the part of each worker's time that the tenant is guaranteed.
	// What others leave it may use as well. Left out: what is left over.
	Share Share `json:"share,omitzero"`
	// Memory bounds the memory of all its functions and flows, all workers
	// together.
	Memory Bytes `json:"memory,omitzero"`
	// Flows bounds the flows of all its chains together.
	Flows Count `json:"flows,omitzero"`
	// Chains bounds the chains that run, and with them their match rules: 4 for
	// each chain, but at least 1,024. Left out: 256.
	Chains Count `json:"chains,omitzero"`
	// Modules bounds the versions of functions stored.
	Modules Count `json:"modules,omitzero"`
	// ModuleBytes bounds the bytes of all modules stored.
	ModuleBytes Bytes `json:"moduleBytes,omitzero"`
	// LogLines bounds the log lines of all its functions per second. Left out:
	// 100; at most 1,000,000.
	LogLines Count `json:"logLines,omitzero"`
	// APICalls bounds the API calls with all its tokens per second.
	APICalls Count `json:"apiCalls,omitzero"`
	// RequireSigned refuses functions that none of the tenant's keys signed.
	RequireSigned bool `json:"requireSigned,omitzero"`
}

// TenantStatus is what a tenant uses.
type TenantStatus struct {
	Chains      int        `json:"chains"`
	Modules     int        `json:"modules"`
	ModuleBytes Bytes      `json:"moduleBytes"`
	Conditions  Conditions `json:"conditions,omitzero"`
}

// Role is what a token may do: a viewer reads, a deployer changes functions,
// aliases and chains too, an admin everything.
type Role string

// The roles.
const (
	Admin    Role = "admin"
	Deployer Role = "deployer"
	Viewer   Role = "viewer"
)

// Includes says whether the role may do whatever other may.
func (r Role) Includes(other Role) bool { return r.rank() >= other.rank() && r.rank() > 0 }

func (r Role) rank() int {
	switch r {
	case Admin:
		return 3
	case Deployer:
		return 2
	case Viewer:
		return 1
	}
	return 0
}

// Token lets whoever has its secret in. Without a tenant it is good for the
// whole host.
type Token struct {
	Type     `json:",inline"`
	Metadata Metadata    `json:"metadata"`
	Spec     TokenSpec   `json:"spec"`
	Status   TokenStatus `json:"status,omitzero"`
	// Secret is what to send as bearer token. It is told once, in the answer
	// that made it.
	Secret string `json:"secret,omitzero"`
}

// TokenSpec is what a token is good for.
type TokenSpec struct {
	// Role is what it may do.
	Role Role `json:"role" enum:"admin,deployer,viewer"`
	// ExpiresAt is when it ends. Left out: in 30 days. At most 366 days ahead.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
}

// TokenStatus is what became of a token.
type TokenStatus struct {
	Expired bool `json:"expired"`
	// RotatedAt is when its secret was replaced last.
	RotatedAt time.Time `json:"rotatedAt,omitzero"`
	// PreviousUntil is until when the secret before is good, too.
	PreviousUntil time.Time `json:"previousUntil,omitzero"`
}

// Rotation asks for a new secret.
type Rotation struct {
	// OverlapSeconds is how long the old secret stays good. At most a day.
	OverlapSeconds int `json:"overlapSeconds,omitzero"`
	// ExpiresAt is when the new one ends. Left out: 30 days from now.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
}

// Key is a public key whose signatures the tenant trusts.
type Key struct {
	Type     `json:",inline"`
	Metadata Metadata `json:"metadata"`
	Spec     KeySpec  `json:"spec"`
}

// KeySpec is the key itself.
type KeySpec struct {
	// PublicKey is an ed25519 public key: 32 bytes in base64.
	PublicKey string `json:"publicKey"`
}

// Identity is who is asking.
type Identity struct {
	// Name says who it is, as the audit log does, such as token:acme/ci.
	Name string `json:"name"`
	// Tenant is the only one that the caller sees; empty for all.
	Tenant string `json:"tenant,omitzero"`
	Role   Role   `json:"role" enum:"admin,deployer,viewer"`
	// ExpiresAt is when the token ends.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
	// Server is the daemon's version.
	Server string `json:"server"`
}

// Header implements Object.
func (o *Tenant) Header() (*Type, *Metadata) { return &o.Type, &o.Metadata }

// Header implements Object.
func (o *Token) Header() (*Type, *Metadata) { return &o.Type, &o.Metadata }

// Header implements Object.
func (o *Key) Header() (*Type, *Metadata) { return &o.Type, &o.Metadata }

// KindName implements Object.
func (o *Tenant) KindName() string { return "Tenant" }

// KindName implements Object.
func (o *Token) KindName() string { return "Token" }

// KindName implements Object.
func (o *Key) KindName() string { return "Key" }
