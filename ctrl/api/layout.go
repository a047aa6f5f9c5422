package api

import "strings"

// Buckets of the store's system space. Values are the objects in JSON without
// status, which is kept apart.
const (
	BucketTenants = "tenants" // key: tenant
	BucketPorts   = "ports"   // key: port
	BucketTokens  = "tokens"  // key: TokenKey
)

// Buckets of a tenant's space.
const (
	BucketChains    = "chains"    // key: chain
	BucketFunctions = "functions" // key: FunctionKey
	BucketAliases   = "aliases"   // key: AliasKey
	BucketKeys      = "keys"      // key: key
)

// BucketStatus is the bucket of what is observed, in every space. Its keys are
// StatusKey, its values the status objects in JSON, such as ChainStatus.
const BucketStatus = "status"

// FunctionKey is the key of a function's version.
func FunctionKey(function, version string) string { return function + "/" + version }

// AliasKey is the key of a function's alias.
func AliasKey(function, alias string) string { return function + "/" + alias }

// TokenKey is the key of a token. Names have no slash, so a host's token, whose
// tenant is empty, has a key of its own.
func TokenKey(tenant, name string) string { return tenant + "/" + name }

// StatusKey is the key of the status of an object, by the bucket and key of its
// spec.
func StatusKey(bucket, key string) string { return bucket + "/" + key }

// StoreKey returns the key under which an object is kept in its bucket.
func StoreKey(o Object) string {
	_, meta := o.Header()
	switch o := o.(type) {
	case *Function:
		return FunctionKey(meta.Name, o.Spec.Version)
	case *Alias:
		return AliasKey(o.Spec.Function, meta.Name)
	case *Token:
		return TokenKey(meta.Tenant, meta.Name)
	}
	return meta.Name
}

// SplitRef parts what a chain calls a module: function@version, function@alias,
// or sha256:DIGEST, whose function is empty. ok is false for anything else.
func SplitRef(module string) (function, versionOrAlias string, ok bool) {
	if digest, is := strings.CutPrefix(module, "sha256:"); is {
		return "", module, isDigest(digest)
	}
	function, versionOrAlias, ok = strings.Cut(module, "@")
	return function, versionOrAlias, ok && IsName(function) && (IsName(versionOrAlias) || IsVersion(versionOrAlias))
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
