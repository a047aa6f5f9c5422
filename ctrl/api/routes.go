package api

import (
	"net/http"
	"reflect"
)

// Body is how a request or an answer is sent, if not as JSON.
type Body string

// What bodies there are.
const (
	BodyJSON    Body = "application/json"
	BodyWasm    Body = "application/wasm"
	BodyPcapng  Body = "application/x-pcapng"
	BodyStream  Body = "application/x-ndjson"
	BodyMetrics Body = "text/plain; version=0.0.4"
)

// Scope says whose a route is.
type Scope string

const (
	// Public routes answer anybody who reaches the server.
	Public Scope = "public"
	// Anyone with a valid token, or known by the unix socket.
	Anyone Scope = "anyone"
	// OfTenant routes have a {tenant}: its tokens, and the host's.
	OfTenant Scope = "tenant"
	// OfHost routes are for tokens of the host.
	OfHost Scope = "host"
)

// Param is a query parameter or header of a route.
type Param struct {
	Name, In    string // In is query or header
	Type        string // string, integer or boolean
	Description string
}

// Route is an operation of the API. The server, the OpenAPI document and the
// authorization test are made of the table of routes.
type Route struct {
	// Operation is unique, such as createChain.
	Operation    string
	Method, Path string
	Summary      string
	Tag          string
	Scope        Scope
	// Role is what a token needs at least, unless the route is public.
	Role Role
	// Request and Response are the types of the bodies; nil for none, or when
	// the body is not JSON.
	Request, Response reflect.Type
	// RequestBody and ResponseBody are how bodies are sent; empty: none.
	RequestBody, ResponseBody Body
	// Status of a success; Created routes may also answer 200.
	Status int
	// Idempotent: to send it twice does no more than to send it once.
	Idempotent bool
	// Watches says that ?watch=true turns a list into a stream of events.
	Watches bool
	Params  []Param
}

// Query parameters and headers.
var (
	limitParam    = Param{"limit", "query", "integer", "Items per page, 1 to 1000. Default 500."}
	continueParam = Param{"continue", "query", "string", "From an earlier page: where to go on."}
	watchParam    = Param{"watch", "query", "boolean", "Stream the changes, a WatchEvent per line, instead of a list."}
	versionParam  = Param{"resourceVersion", "query", "string", "With watch: tell what came after this version of a list, or of an earlier event."}
	ifMatch       = Param{"If-Match", "header", "string", "Do it only if the object still has this resourceVersion."}
	ifNoneMatch   = Param{"If-None-Match", "header", "string", "*: do it only if there is no such object."}
	filterParam   = Param{"filter", "query", "string", "A tcpdump expression."}
	chainParam    = Param{"chain", "query", "string", "Only what concerns this chain."}
	functionParam = Param{"function", "query", "string", "Only what concerns this function."}
	tenantParam   = Param{"tenant", "query", "string", "Only what concerns this tenant."}
	flowLimit     = Param{"limit", "query", "integer", "Flows at most, 1 to 10000. Default 100."}
	kindParam     = Param{"kind", "query", "string", "Only events of this kind."}
	afterParam    = Param{"after", "query", "integer", "Only what has a higher number."}
	followParam   = Param{"follow", "query", "boolean", "Go on with what comes."}
	auditLimit    = Param{"limit", "query", "integer", "Entries at most, 1 to 1000. Default 100."}
	eventLimit    = Param{"limit", "query", "integer", "Entries at most, the latest of them. Default all that are kept."}
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// Routes returns the table of routes.
func Routes() []Route {
	const tenant = "/v1/tenants/{tenant}"
	var t table
	t.add(Route{Operation: "getHealth", Method: "GET", Path: "/healthz", Summary: "Say whether the daemon serves", Tag: "daemon", Scope: Public, Response: typeOf[Health]()})
	t.add(Route{Operation: "getOpenAPI", Method: "GET", Path: "/openapi.json", Summary: "This document", Tag: "daemon", Scope: Public, ResponseBody: BodyJSON})
	t.add(Route{Operation: "getMetrics", Method: "GET", Path: "/metrics", Summary: "Metrics for Prometheus", Tag: "daemon", Scope: OfHost, Role: Viewer, ResponseBody: BodyMetrics})
	t.add(Route{Operation: "getIdentity", Method: "GET", Path: "/v1/whoami", Summary: "Say who is asking", Tag: "daemon", Scope: Anyone, Role: Viewer, Response: typeOf[Identity]()})
	t.add(Route{Operation: "listAudit", Method: "GET", Path: "/v1/audit", Summary: "Read the audit log", Tag: "daemon", Scope: OfHost, Role: Admin, Response: typeOf[AuditList](), Params: []Param{afterParam, tenantParam, auditLimit}})
	t.add(Route{Operation: "getStats", Method: "GET", Path: "/v1/stats", Summary: "The account of the data plane", Tag: "live", Scope: OfHost, Role: Viewer, Response: typeOf[Stats]()})
	t.add(Route{Operation: "listFlows", Method: "GET", Path: "/v1/flows", Summary: "List flows of all tenants", Tag: "live", Scope: OfHost, Role: Viewer, Response: typeOf[FlowList](), Params: []Param{tenantParam, chainParam, filterParam, flowLimit}})
	t.add(Route{Operation: "listEvents", Method: "GET", Path: "/v1/events", Summary: "Read events of all tenants, one per line", Tag: "live", Scope: OfHost, Role: Viewer, Response: typeOf[Event](), ResponseBody: BodyStream, Params: []Param{afterParam, followParam, kindParam, tenantParam, chainParam, functionParam, eventLimit}})

	crud[Tenant](&t, "Tenant", "Tenants", "tenants", "/v1/tenants", "{tenant}", OfHost, Viewer, Admin)
	crud[Token](&t, "HostToken", "HostTokens", "tokens", "/v1/tokens", "{token}", OfHost, Admin, Admin)
	t.add(rotate("rotateHostToken", "/v1/tokens/{token}/rotate", OfHost))
	crud[Port](&t, "Port", "Ports", "ports", "/v1/ports", "{port}", OfHost, Viewer, Admin)

	crud[Token](&t, "Token", "Tokens", "tokens", tenant+"/tokens", "{token}", OfTenant, Admin, Admin)
	t.add(rotate("rotateToken", tenant+"/tokens/{token}/rotate", OfTenant))
	crud[Key](&t, "Key", "Keys", "keys", tenant+"/keys", "{key}", OfTenant, Viewer, Admin)
	crud[Chain](&t, "Chain", "Chains", "chains", tenant+"/chains", "{chain}", OfTenant, Viewer, Deployer)
	functions(&t, tenant)

	t.add(Route{Operation: "getTenantStats", Method: "GET", Path: tenant + "/stats", Summary: "The account of a tenant's chains", Tag: "live", Scope: OfTenant, Role: Viewer, Response: typeOf[Stats]()})
	t.add(Route{Operation: "listTenantPorts", Method: "GET", Path: tenant + "/ports", Summary: "List ports that a tenant may use", Tag: "ports", Scope: OfTenant, Role: Viewer, Response: typeOf[List[Port]](), Params: []Param{limitParam, continueParam}})
	t.add(Route{Operation: "listTenantFlows", Method: "GET", Path: tenant + "/flows", Summary: "List flows of a tenant's chains", Tag: "live", Scope: OfTenant, Role: Viewer, Response: typeOf[FlowList](), Params: []Param{chainParam, filterParam, flowLimit}})
	t.add(Route{Operation: "listTenantEvents", Method: "GET", Path: tenant + "/events", Summary: "Read events of a tenant, one per line", Tag: "live", Scope: OfTenant, Role: Viewer, Response: typeOf[Event](), ResponseBody: BodyStream, Params: []Param{afterParam, followParam, kindParam, chainParam, functionParam, eventLimit}})
	t.add(Route{Operation: "traceChain", Method: "POST", Path: tenant + "/chains/{chain}/trace", Summary: "Follow packets through a chain", Tag: "live", Scope: OfTenant, Role: Viewer, Request: typeOf[TraceRequest](), Response: typeOf[TraceList](), Idempotent: true})
	t.add(Route{Operation: "captureChain", Method: "POST", Path: tenant + "/chains/{chain}/capture", Summary: "Write packets of a chain down as pcapng", Tag: "live", Scope: OfTenant, Role: Viewer, Request: typeOf[CaptureRequest](), ResponseBody: BodyPcapng, Idempotent: true})
	return t
}

// table collects routes.
type table []Route

// add appends a route with what follows from the rest of it filled in.
func (t *table) add(r Route) {
	if r.Request != nil && r.RequestBody == "" {
		r.RequestBody = BodyJSON
	}
	if r.Response != nil && r.ResponseBody == "" {
		r.ResponseBody = BodyJSON
	}
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	r.Idempotent = r.Idempotent || r.Method != http.MethodPost
	*t = append(*t, r)
}

// crud adds the routes of a kind.
func crud[T any](t *table, one, many, tag, path, item string, scope Scope, read, write Role) {
	object, list := typeOf[T](), typeOf[List[T]]()
	itemPath := path + "/" + item
	get := scope
	if item == "{tenant}" {
		get = OfTenant // its own tokens may read it
	}
	t.add(Route{Operation: "list" + many, Method: "GET", Path: path, Summary: "List or watch " + many, Tag: tag, Scope: scope, Role: read, Response: list, Watches: true, Params: []Param{limitParam, continueParam, watchParam, versionParam}})
	t.add(Route{Operation: "create" + one, Method: "POST", Path: path, Summary: "Create a " + one + "; the same again answers 200, another under the name 409", Tag: tag, Scope: scope, Role: write, Request: object, Response: object, Status: http.StatusCreated, Idempotent: true})
	t.add(Route{Operation: "get" + one, Method: "GET", Path: itemPath, Summary: "Read a " + one, Tag: tag, Scope: get, Role: read, Response: object})
	t.add(Route{Operation: "put" + one, Method: "PUT", Path: itemPath, Summary: "Create or replace a " + one, Tag: tag, Scope: scope, Role: write, Request: object, Response: object, Params: []Param{ifMatch, ifNoneMatch}})
	t.add(Route{Operation: "delete" + one, Method: "DELETE", Path: itemPath, Summary: "Delete a " + one, Tag: tag, Scope: scope, Role: write, Status: http.StatusNoContent, Params: []Param{ifMatch}})
}

func rotate(operation, path string, scope Scope) Route {
	return Route{Operation: operation, Method: "POST", Path: path, Summary: "Replace a token's secret", Tag: "tokens", Scope: scope, Role: Admin, Request: typeOf[Rotation](), Response: typeOf[Token]()}
}

// functions adds the routes of the function store.
func functions(t *table, tenant string) {
	const tag = "functions"
	function := tenant + "/functions/{function}"
	version := function + "/versions/{version}"
	alias := function + "/aliases/{alias}"
	lists := []Param{limitParam, continueParam, watchParam, versionParam, functionParam}
	t.add(Route{Operation: "listFunctions", Method: "GET", Path: tenant + "/functions", Summary: "List or watch versions of functions", Tag: tag, Scope: OfTenant, Role: Viewer, Response: typeOf[List[Function]](), Watches: true, Params: lists})
	t.add(Route{Operation: "getFunction", Method: "GET", Path: version, Summary: "Read what is known of a version", Tag: tag, Scope: OfTenant, Role: Viewer, Response: typeOf[Function]()})
	t.add(Route{Operation: "putFunction", Method: "PUT", Path: version, Summary: "Upload a module as a version, which never changes; the same again answers 200, another 409", Tag: tag, Scope: OfTenant, Role: Deployer, RequestBody: BodyWasm, Response: typeOf[Function](), Status: http.StatusCreated, Params: []Param{
		{"Sfc-Digest", "header", "string", "What the module's digest must be: sha256: and 64 hexadecimal digits."},
		{"Sfc-Signature", "header", "string", "An ed25519 signature over digest and manifest: 64 bytes in base64."},
		{"Sfc-Source", "header", "string", "Where the module comes from, for its provenance."},
	}})
	t.add(Route{Operation: "deleteFunction", Method: "DELETE", Path: version, Summary: "Delete a version that nothing uses", Tag: tag, Scope: OfTenant, Role: Deployer, Status: http.StatusNoContent, Params: []Param{ifMatch}})
	t.add(Route{Operation: "getModule", Method: "GET", Path: version + "/module", Summary: "Download the module of a version", Tag: tag, Scope: OfTenant, Role: Viewer, ResponseBody: BodyWasm})
	t.add(Route{Operation: "collectFunctions", Method: "POST", Path: tenant + "/functions/collect", Summary: "Remove versions that nothing uses", Tag: tag, Scope: OfTenant, Role: Deployer, Request: typeOf[Collect](), Response: typeOf[Collected](), Idempotent: true})
	t.add(Route{Operation: "listAliases", Method: "GET", Path: tenant + "/aliases", Summary: "List or watch aliases", Tag: tag, Scope: OfTenant, Role: Viewer, Response: typeOf[List[Alias]](), Watches: true, Params: lists})
	t.add(Route{Operation: "getAlias", Method: "GET", Path: alias, Summary: "Read an alias", Tag: tag, Scope: OfTenant, Role: Viewer, Response: typeOf[Alias]()})
	t.add(Route{Operation: "putAlias", Method: "PUT", Path: alias, Summary: "Make or move an alias", Tag: tag, Scope: OfTenant, Role: Deployer, Request: typeOf[Alias](), Response: typeOf[Alias](), Params: []Param{ifMatch, ifNoneMatch}})
	t.add(Route{Operation: "deleteAlias", Method: "DELETE", Path: alias, Summary: "Delete an alias that no chain uses", Tag: tag, Scope: OfTenant, Role: Deployer, Status: http.StatusNoContent, Params: []Param{ifMatch}})
	t.add(Route{Operation: "rollbackAlias", Method: "POST", Path: alias + "/rollback", Summary: "Make an alias stand for what it stood for before", Tag: tag, Scope: OfTenant, Role: Deployer, Response: typeOf[Alias](), Params: []Param{ifMatch}})
	t.add(Route{Operation: "promoteAlias", Method: "POST", Path: alias + "/promote", Summary: "Give all flows the version under trial", Tag: tag, Scope: OfTenant, Role: Deployer, Response: typeOf[Alias](), Params: []Param{ifMatch}})
	t.add(Route{Operation: "abortAlias", Method: "POST", Path: alias + "/abort", Summary: "End a trial; without one there is nothing to do", Tag: tag, Scope: OfTenant, Role: Deployer, Response: typeOf[Alias](), Params: []Param{ifMatch}})
}
