package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Options say how to speak to registries. The zero value selects the defaults:
// any registry of the internet, by TLS, without a name.
type Options struct {
	// Username and Password, or Token, are what the registry wants to see. They
	// are sent to the registry of the reference and to nobody else.
	Username, Password, Token string
	// PlainHTTP speaks without TLS, to registries on this host or in a lab.
	PlainHTTP bool
	// Hosts are the registries that may be asked, as name or name:port. Empty:
	// any whose address is on the internet. A daemon asks on behalf of tenants,
	// who must not reach through it what they cannot reach themselves, so hosts
	// on its own networks have to be named here.
	Hosts []string
	// MaxModule is the largest module, in bytes. Default 4 MiB.
	MaxModule int64
	// Timeout bounds a whole push or pull. Default 1 minute.
	Timeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.MaxModule == 0 {
		o.MaxModule = 4 << 20
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	return o
}

// maxManifest is the largest manifest that is read, in bytes: what registries
// take (distribution-spec, "Pushing manifests").
const maxManifest = 4 << 20

// blob is content with what is said of it.
type blob struct {
	desc ocispec.Descriptor
	data []byte
}

func newBlob(mediaType string, data []byte) blob {
	return blob{content.NewDescriptorFromBytes(mediaType, data), data}
}

// repository opens the repository of a reference.
func repository(ref registry.Reference, o Options) (*remote.Repository, error) {
	if err := allowed(ref.Registry, o.Hosts); err != nil {
		return nil, err
	}
	repo := &remote.Repository{Reference: ref, PlainHTTP: o.PlainHTTP}
	client := &auth.Client{Client: httpClient(o), Cache: auth.NewCache()}
	client.SetUserAgent("sfc")
	if o.Username != "" || o.Token != "" {
		client.Credential = auth.StaticCredential(ref.Registry, auth.Credential{Username: o.Username, Password: o.Password, AccessToken: o.Token})
	}
	repo.Client = client
	return repo, nil
}

// Push stores an artifact in a registry, and returns its reference by digest.
// To push it again is no error, and changes nothing.
func Push(ctx context.Context, reference string, a *Artifact, o Options) (pinned string, err error) {
	o = o.withDefaults()
	ref, err := parse(reference)
	if err != nil {
		return "", err
	}
	if int64(len(a.Module)) > o.MaxModule {
		return "", fmt.Errorf("push %s: %w: the module has %d bytes, at most %d are allowed", ref, ErrTooLarge, len(a.Module), o.MaxModule)
	}
	manifest, conf, layer, err := pack(a)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	if d, err := ref.Digest(); err == nil && d != manifest.desc.Digest {
		return "", fmt.Errorf("push %s: %w: the artifact's digest is %s: name a tag instead", ref, ErrReference, manifest.desc.Digest)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	repo, err := repository(ref, o)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	ctx = auth.AppendRepositoryScope(ctx, ref, auth.ActionPull, auth.ActionPush)
	for _, b := range []blob{layer, conf} {
		there, err := repo.Blobs().Exists(ctx, b.desc)
		if err == nil && !there {
			err = repo.Blobs().Push(ctx, b.desc, bytes.NewReader(b.data))
		}
		if err != nil {
			return "", fmt.Errorf("push %s: %w: %w", ref, ErrRegistry, err)
		}
	}
	if err := repo.PushReference(ctx, manifest.desc, bytes.NewReader(manifest.data), ref.Reference); err != nil {
		return "", fmt.Errorf("push %s: %w: %w", ref, ErrRegistry, err)
	}
	return pin(ref, manifest.desc.Digest), nil
}

// pin returns the reference by digest.
func pin(ref registry.Reference, d digest.Digest) string {
	ref.Reference = d.String()
	return ref.String()
}

// Pull gets an artifact from a registry. Its reference is by digest, whatever was
// asked for, so that provenance says what it was.
func Pull(ctx context.Context, reference string, o Options) (Pulled, error) {
	o = o.withDefaults()
	ref, err := parse(reference)
	if err != nil {
		return Pulled{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	repo, err := repository(ref, o)
	if err != nil {
		return Pulled{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	ctx = auth.AppendRepositoryScope(ctx, ref, auth.ActionPull)
	p, err := pull(ctx, repo, ref, o)
	if err != nil {
		return Pulled{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	return p, nil
}

func pull(ctx context.Context, repo *remote.Repository, ref registry.Reference, o Options) (Pulled, error) {
	desc, body, err := repo.FetchReference(ctx, ref.Reference)
	if err != nil {
		return Pulled{}, fmt.Errorf("%w: %w", ErrRegistry, err)
	}
	if desc.MediaType != ocispec.MediaTypeImageManifest {
		return Pulled{}, errors.Join(fmt.Errorf("%w: it is a %.100q: give the reference of one artifact", ErrArtifact, desc.MediaType), body.Close())
	}
	text, err := readBlob(body, desc, maxManifest, "the manifest")
	if err != nil {
		return Pulled{}, err
	}
	a, layer, err := unpack(text)
	if err != nil {
		return Pulled{}, err
	}
	if layer.Size > o.MaxModule {
		return Pulled{}, fmt.Errorf("%w: the module has %d bytes, at most %d are allowed", ErrTooLarge, layer.Size, o.MaxModule)
	}
	body, err = repo.Blobs().Fetch(ctx, layer)
	if err != nil {
		return Pulled{}, fmt.Errorf("%w: %w", ErrRegistry, err)
	}
	if a.Module, err = readBlob(body, layer, o.MaxModule, "the module"); err != nil {
		return Pulled{}, err
	}
	return Pulled{Artifact: a, Reference: pin(ref, desc.Digest)}, nil
}

// readBlob reads and closes a body, which must be what the descriptor says. It
// allocates as bytes arrive, not as they are announced.
func readBlob(body io.ReadCloser, desc ocispec.Descriptor, limit int64, what string) (_ []byte, err error) {
	defer func() { err = errors.Join(err, body.Close()) }()
	if desc.Size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrTooLarge, what, desc.Size, limit)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(body, desc.Size+1)); err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", what, ErrRegistry, err)
	}
	if int64(b.Len()) != desc.Size || digest.FromBytes(b.Bytes()) != desc.Digest {
		return nil, fmt.Errorf("%w: %s is not what its digest %s says: %d bytes came, %d were announced", ErrArtifact, what, desc.Digest, b.Len(), desc.Size)
	}
	return b.Bytes(), nil
}
