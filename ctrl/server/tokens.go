package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sfc/ctrl/api"
)

// Life of tokens.
const (
	tokenLife    = 30 * 24 * time.Hour
	tokenLongest = 366 * 24 * time.Hour
	rotateMost   = 24 * time.Hour
)

// A secret is sfc1.TENANT.NAME.RANDOM, so the record is found by name, and what
// is secret, 256 random bits, is never looked up but compared. Such bits need no
// slow hash: nobody can try them out, so what a thief of the store gains from
// one SHA-256 of them is nothing.
const (
	secretPrefix = "sfc1"
	secretBytes  = 32
)

// tokenRecord is a token as it is stored.
type tokenRecord struct {
	api.Token
	// TenantUID is the tenant's: the tokens of a tenant that was deleted open
	// no door of a later one of its name.
	TenantUID string         `json:"tenantUID,omitzero"`
	Hashes    []hashedSecret `json:"hashes"` // the current one first
}

// hashedSecret is a secret that is good until a time.
type hashedSecret struct {
	SHA256    []byte    `json:"sha256"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// tokens makes and checks tokens.
type tokens struct{ spaces *spaces }

// newSecret returns a secret of a token, and what to store of it.
func newSecret(tenant, name string, expires time.Time) (string, hashedSecret) {
	raw := make([]byte, secretBytes)
	rand.Read(raw) // never fails
	secret := strings.Join([]string{secretPrefix, tenant, name, base64.RawURLEncoding.EncodeToString(raw)}, ".")
	sum := sha256.Sum256([]byte(secret))
	return secret, hashedSecret{SHA256: sum[:], ExpiresAt: expires}
}

// noHash is compared with where there is no record, so that its absence takes
// the same time.
var noHash = make([]byte, sha256.Size)

// check returns who a secret lets in. The error does not say why it does not.
func (t *tokens) check(ctx context.Context, secret string) (*principal, error) {
	refused := api.NewProblem(http.StatusUnauthorized, api.ReasonUnauthorized, "the token is unknown or has expired: get another one")
	parts := strings.Split(secret, ".")
	if len(parts) != 4 || parts[0] != secretPrefix || len(secret) > 256 {
		return nil, refused
	}
	tenant, name := parts[1], parts[2]
	bucket, err := t.spaces.system.Bucket(ctx, api.BucketTokens)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(secret))
	var record tokenRecord
	hashes := []hashedSecret{{SHA256: noHash}}
	if e, err := bucket.Get(api.TokenKey(tenant, name)); err == nil {
		if err := json.Unmarshal(e.Value, &record); err != nil {
			return nil, fmt.Errorf("read token %s/%s: %w", tenant, name, err)
		}
		hashes = record.Hashes
	}
	now := time.Now()
	for _, h := range hashes {
		if subtle.ConstantTimeCompare(h.SHA256, sum[:]) != 1 || !now.Before(h.ExpiresAt) {
			continue
		}
		p := &principal{name: "token:" + strings.TrimPrefix(tenant+"/"+name, "/"), tenant: tenant, role: record.Spec.Role, expires: h.ExpiresAt}
		if tenant != "" {
			owner, err := t.spaces.tenant(tenant)
			if err != nil || owner.Metadata.UID != record.TenantUID {
				return nil, refused
			}
			p.calls = int(min(owner.Spec.APICalls, 1<<30))
		}
		return p, nil
	}
	return nil, refused
}

// expiry checks when a token is to end, and says when if it was left out.
func expiry(at, now time.Time) (time.Time, error) {
	switch {
	case at.IsZero():
		return now.Add(tokenLife).UTC().Truncate(time.Second), nil
	case !at.After(now):
		return at, api.Invalid(api.At("spec.expiresAt", "%s is past", at.Format(time.RFC3339)))
	case at.After(now.Add(tokenLongest)):
		return at, api.Invalid(api.At("spec.expiresAt", "%s is more than 366 days ahead: take an earlier time, and rotate", at.Format(time.RFC3339)))
	}
	return at.UTC(), nil
}

// shown is the token as it is told: without hashes.
func (r *tokenRecord) shown() *api.Token {
	t := r.Token
	t.Status.Expired = len(r.Hashes) == 0 || !time.Now().Before(r.Hashes[0].ExpiresAt)
	if len(r.Hashes) > 1 && time.Now().Before(r.Hashes[1].ExpiresAt) {
		t.Status.PreviousUntil = r.Hashes[1].ExpiresAt
	}
	return &t
}
