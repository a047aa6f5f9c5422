package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sfc/chains"
	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// observe reads what is observed of an object into its status.
func observe[S any](status *S, observed []byte) error {
	if observed == nil {
		return nil
	}
	return json.Unmarshal(observed, status)
}

func (s *Server) tenantKind() *kind[api.Tenant, *api.Tenant] {
	return &kind[api.Tenant, *api.Tenant]{
		bucket: api.BucketTenants, host: true, param: "tenant",
		spec: func(o *api.Tenant) any { return &o.Spec },
		status: func(r *request, o *api.Tenant, observed []byte) error {
			if err := observe(&o.Status, observed); err != nil {
				return err
			}
			return s.usage(r, o)
		},
		accept: func(_ *request, o, _ *api.Tenant) error {
			o.Status = api.TenantStatus{} // the daemon's to say
			return nil
		},
		after: func(r *request, o *api.Tenant) error {
			// Its space gets the limits that it has now.
			_, err := s.spaces.space(r.Context(), o.Metadata.Name)
			return err
		},
		remove: s.removeTenant,
	}
}

// usage counts what a tenant has stored.
func (s *Server) usage(r *request, o *api.Tenant) error {
	for bucket, count := range map[string]func(store.Page) error{
		api.BucketChains: func(p store.Page) error { o.Status.Chains = len(p.Entries); return nil },
		api.BucketFunctions: func(p store.Page) error {
			o.Status.Modules, o.Status.ModuleBytes = len(p.Entries), 0
			for _, e := range p.Entries {
				var f api.Function
				if err := json.Unmarshal(e.Value, &f); err != nil {
					return fmt.Errorf("read function %s: %w", e.Key, err)
				}
				o.Status.ModuleBytes += api.Bytes(f.Spec.Size)
			}
			return nil
		},
	} {
		b, err := s.spaces.bucket(r.Context(), o.Metadata.Name, bucket)
		if err != nil {
			return err
		}
		page, err := b.List("", 0, "")
		if err == nil {
			err = count(page)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeTenant deletes a tenant that has no chains, with everything else that it
// has: first its tokens, so that nobody comes in, then its data, then itself. If
// that is cut short it is still there, and deleting it again goes on.
func (s *Server) removeTenant(r *request, o *api.Tenant, revision uint64) error {
	name := o.Metadata.Name
	l := s.spaces.lock(name)
	if !l.TryLock() {
		return api.NewProblem(http.StatusConflict, api.ReasonInUse, "tenant %q is being changed: try again", name)
	}
	defer l.Unlock()
	if err := s.usage(r, o); err != nil {
		return err
	}
	if o.Status.Chains > 0 {
		return api.NewProblem(http.StatusConflict, api.ReasonInUse, "tenant %q has %d chains: delete them first", name, o.Status.Chains)
	}
	bucket, err := s.spaces.system.Bucket(r.Context(), api.BucketTokens)
	if err != nil {
		return err
	}
	page, err := bucket.List(api.TokenKey(name, ""), 0, "")
	if err != nil {
		return err
	}
	for _, e := range page.Entries {
		if _, err := bucket.Delete(r.Context(), e.Key, e.Revision); err != nil {
			return fmt.Errorf("delete token %s: %w", e.Key, err)
		}
	}
	s.spaces.forget(name)
	if err := s.opts.Store.Remove(r.Context(), name); err != nil && !isAbsent(err) {
		return err
	}
	if _, err := s.spaces.tenants.Delete(r.Context(), name, revision); err != nil {
		return err
	}
	return s.tenantKind().forget(r, name)
}

func (s *Server) portKind() *kind[api.Port, *api.Port] {
	return &kind[api.Port, *api.Port]{
		bucket: api.BucketPorts, host: true, param: "port",
		spec:   func(o *api.Port) any { return &o.Spec },
		status: func(_ *request, o *api.Port, observed []byte) error { return observe(&o.Status, observed) },
		accept: func(_ *request, o, _ *api.Port) error {
			o.Status = api.PortStatus{}
			return nil
		},
		// A tenant sees those that it may use, not who else may.
		visible: func(r *request, o *api.Port) bool {
			if r.tenant == "" {
				return true
			}
			ok := len(o.Spec.Tenants) == 0 || slices.Contains(o.Spec.Tenants, r.tenant)
			o.Spec.Tenants = nil
			return ok
		},
	}
}

func (s *Server) keyKind() *kind[api.Key, *api.Key] {
	return &kind[api.Key, *api.Key]{
		bucket: api.BucketKeys, param: "key",
		spec: func(o *api.Key) any { return &o.Spec },
	}
}

func (s *Server) chainKind() *kind[api.Chain, *api.Chain] {
	return &kind[api.Chain, *api.Chain]{
		bucket: api.BucketChains, param: "chain",
		spec:   func(o *api.Chain) any { return &o.Spec },
		status: func(_ *request, o *api.Chain, observed []byte) error { return observe(&o.Status, observed) },
		accept: func(_ *request, o, _ *api.Chain) error { return acceptChain(o) },
	}
}

// acceptChain checks a chain as its file would be.
func acceptChain(o *api.Chain) error {
	o.Status = api.ChainStatus{}
	if o.Spec.Functions == nil {
		o.Spec.Functions = []api.ChainFunction{} // forward only
	}
	for i := range o.Spec.Functions {
		f := &o.Spec.Functions[i]
		if name, _, ok := api.SplitRef(f.Module); f.Name == "" && ok {
			f.Name = name
		}
	}
	doc, err := o.Document()
	if err != nil {
		return api.Invalid(api.At("spec", "%v", err))
	}
	if _, err := chains.Parse("", doc); err != nil {
		return chainProblems(err)
	}
	return nil
}

func (s *Server) functionKind() *kind[api.Function, *api.Function] {
	return &kind[api.Function, *api.Function]{
		bucket: api.BucketFunctions, param: "version",
		spec:   func(o *api.Function) any { return &o.Spec },
		prefix: functionPrefix,
		bare: func(o *api.Function, key string) {
			o.Metadata.Name, o.Spec.Version, _ = strings.Cut(key, "/")
		},
		status: func(r *request, o *api.Function, observed []byte) error {
			if err := observe(&o.Status, observed); err != nil {
				return err
			}
			return s.aliasesOf(r, o)
		},
	}
}

// aliasesOf finds the aliases that point to a version.
func (s *Server) aliasesOf(r *request, o *api.Function) error {
	bucket, err := s.spaces.bucket(r.Context(), r.tenant, api.BucketAliases)
	if err != nil {
		return err
	}
	page, err := bucket.List(api.AliasKey(o.Metadata.Name, ""), 0, "")
	if err != nil {
		return err
	}
	o.Status.Aliases = nil
	for _, e := range page.Entries {
		var a api.Alias
		if err := json.Unmarshal(e.Value, &a); err != nil {
			return fmt.Errorf("read alias %s: %w", e.Key, err)
		}
		if a.Spec.Version == o.Spec.Version || a.Spec.Canary != nil && a.Spec.Canary.Version == o.Spec.Version {
			o.Status.Aliases = append(o.Status.Aliases, a.Metadata.Name)
		}
	}
	return nil
}

func (s *Server) aliasKind() *kind[api.Alias, *api.Alias] {
	return &kind[api.Alias, *api.Alias]{
		bucket: api.BucketAliases, param: "alias",
		spec:   func(o *api.Alias) any { return &o.Spec },
		prefix: functionPrefix,
		bare: func(o *api.Alias, key string) {
			o.Spec.Function, o.Metadata.Name, _ = strings.Cut(key, "/")
		},
		status: func(_ *request, o *api.Alias, observed []byte) error { return observe(&o.Status, observed) },
	}
}

// functionPrefix selects the versions or aliases of the function that the path
// or the query names.
func functionPrefix(r *request) string {
	function := r.PathValue("function")
	if function == "" {
		function = r.URL.Query().Get("function")
	}
	if function == "" {
		return ""
	}
	return function + "/"
}

func (s *Server) tokenKind() *kind[api.Token, *api.Token] {
	return &kind[api.Token, *api.Token]{
		bucket: api.BucketTokens, host: true, param: "token",
		spec:   func(o *api.Token) any { return &o.Spec },
		prefix: func(r *request) string { return api.TokenKey(r.tenant, "") },
		decode: func(value []byte, o *api.Token) error {
			var record tokenRecord
			if err := json.Unmarshal(value, &record); err != nil {
				return err
			}
			*o = *record.shown()
			return nil
		},
		accept: s.acceptToken,
		encode: s.encodeToken,
	}
}

// maxTokens is how many tokens a tenant, or the host, may have: they are kept
// with what is the host's, not in the tenant's own space.
const maxTokens = 1000

// acceptToken says when a token ends. One that is asked for again without a time
// keeps its own.
func (s *Server) acceptToken(r *request, o, old *api.Token) (err error) {
	o.Secret, o.Status = "", api.TokenStatus{}
	if old != nil && (o.Spec.ExpiresAt.IsZero() || o.Spec.ExpiresAt.Equal(old.Spec.ExpiresAt)) {
		o.Spec.ExpiresAt = old.Spec.ExpiresAt
		return nil
	}
	if old == nil {
		bucket, err := s.spaces.system.Bucket(r.Context(), api.BucketTokens)
		if err != nil {
			return err
		}
		page, err := bucket.List(api.TokenKey(r.tenant, ""), maxTokens, "")
		if err != nil {
			return err
		}
		if len(page.Entries) >= maxTokens {
			return api.NewProblem(http.StatusForbidden, api.ReasonQuota, "there are %d tokens already: delete those that nobody uses", maxTokens)
		}
	}
	o.Spec.ExpiresAt, err = expiry(o.Spec.ExpiresAt, time.Now())
	return err
}

// encodeToken makes the record of a token; a new one gets its secret.
func (s *Server) encodeToken(r *request, o *api.Token, old []byte) ([]byte, error) {
	record := tokenRecord{}
	if old != nil {
		if err := json.Unmarshal(old, &record); err != nil {
			return nil, err
		}
		record.Hashes[0].ExpiresAt = o.Spec.ExpiresAt
		o.Status.RotatedAt = record.Status.RotatedAt
	} else {
		secret, hashed := newSecret(o.Metadata.Tenant, o.Metadata.Name, o.Spec.ExpiresAt)
		record.Hashes = []hashedSecret{hashed}
		o.Secret = secret
		if o.Metadata.Tenant != "" {
			tenant, err := s.spaces.tenant(o.Metadata.Tenant)
			if err != nil {
				return nil, err
			}
			record.TenantUID = tenant.Metadata.UID
		}
	}
	record.Token = *o
	record.Secret = ""
	return json.Marshal(&record)
}
