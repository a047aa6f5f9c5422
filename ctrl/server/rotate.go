package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

func isAbsent(err error) bool { return errors.Is(err, store.ErrNotFound) }

// rotate replaces the secret of a token. The old one may stay good for a while,
// so that it can be replaced wherever it is used; one from before that does not.
func (s *Server) rotate(r *request) (*answer, error) {
	var ask api.Rotation
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	overlap := time.Duration(ask.OverlapSeconds) * time.Second
	if ask.OverlapSeconds < 0 || ask.OverlapSeconds > int(rotateMost/time.Second) {
		return nil, api.Invalid(api.At("overlapSeconds", "%d is not between 0 and %d", ask.OverlapSeconds, int(rotateMost/time.Second)))
	}
	now := time.Now().UTC()
	expires, err := expiry(ask.ExpiresAt, now)
	if err != nil {
		return nil, err
	}
	release, err := r.change(r.tenant, r.tenant != "")
	if err != nil {
		return nil, err
	}
	defer release()
	bucket, err := s.spaces.system.Bucket(r.Context(), api.BucketTokens)
	if err != nil {
		return nil, err
	}
	e, err := bucket.Get(api.TokenKey(r.tenant, r.PathValue("token")))
	if err != nil {
		return nil, err
	}
	var record tokenRecord
	if err := json.Unmarshal(e.Value, &record); err != nil {
		return nil, fmt.Errorf("read token %s: %w", e.Key, err)
	}
	secret, hashed := newSecret(r.tenant, record.Metadata.Name, expires)
	hashes := []hashedSecret{hashed}
	if previous := record.Hashes[0]; overlap > 0 && now.Before(previous.ExpiresAt) {
		if until := now.Add(overlap); until.Before(previous.ExpiresAt) {
			previous.ExpiresAt = until
		}
		hashes = append(hashes, previous)
	}
	record.Hashes = hashes
	record.Spec.ExpiresAt = expires
	record.Status.RotatedAt = now
	record.Metadata.UpdatedAt = now
	record.Metadata.Generation++
	value, err := json.Marshal(&record)
	if err != nil {
		return nil, err
	}
	revision, err := bucket.Update(r.Context(), e.Key, value, e.Revision)
	if err != nil {
		return nil, err
	}
	t := record.shown()
	t.Type = api.Type{APIVersion: api.Version, Kind: t.KindName()}
	t.Metadata.SetRevision(revision)
	t.Secret = secret
	return &answer{body: t, header: etag(&t.Metadata)}, nil
}
