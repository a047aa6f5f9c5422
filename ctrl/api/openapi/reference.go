package openapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sfc/ctrl/api"
)

// intro is what the reference begins with.
const intro = `# API reference

Made by ` + "`go generate ./ctrl/api`" + ` from the table of routes and the types in ` + "`ctrl/api`" + `; do not edit it here.
` + "[openapi.json](openapi.json)" + ` says the same to programs (OpenAPI 3.1), and the daemon serves it at ` + "`/openapi.json`" + `.

The daemon listens on a unix socket, where root and its own user are admin of the host and members of configured
groups what the configuration says, and, if told to, on TCP with TLS for those who send a token
(` + "`Authorization: Bearer sfc1...`" + `). A token is of a tenant or of the host. *admin* includes *deployer*, which includes *viewer*.

- **Not found.** What is another tenant's is answered as what does not exist: 404, with the same words.
- **Problems** are ` + "`application/problem+json`" + ` (RFC 9457) with a ` + "`reason`" + ` for programs, a ` + "`requestId`" + ` that is in the daemon's logs,
  and the fields that are wrong.
- **Creating** (POST, PUT) the same again is no error: 200 instead of 201. POST of another object under a name that is taken is 409
  ` + "`AlreadyExists`" + `.
- **Conflicts.** ` + "`metadata.resourceVersion`" + ` in the body of a PUT, or ` + "`If-Match`" + `, make a change conditional: 409 ` + "`Conflict`" + ` names the version that is there.
- **Lists** have at most ` + "`limit`" + ` items, and ` + "`metadata.continue`" + ` for the rest. An object that is there all the time is in exactly one page.
- **Watches** (` + "`?watch=true&resourceVersion=`" + ` of a list or an event) are a JSON object per line: ADDED, MODIFIED, DELETED, BOOKMARK, ERROR.
  410 ` + "`Expired`" + ` means: list again.
- **Limits.** 413 for bodies that are too large, 429 with ` + "`Retry-After`" + ` for callers who ask too often or have too many streams open.
`

// Reference returns the routes as a document for people.
func Reference() []byte {
	var out strings.Builder
	out.WriteString(intro)
	byTag := map[string][]api.Route{}
	for _, r := range api.Routes() {
		byTag[r.Tag] = append(byTag[r.Tag], r)
	}
	for _, tag := range slices.Sorted(maps.Keys(byTag)) {
		fmt.Fprintf(&out, "\n## %s\n\n| request | what | who | body | answer |\n|---|---|---|---|---|\n", strings.ToUpper(tag[:1])+tag[1:])
		for _, r := range byTag[tag] {
			fmt.Fprintf(&out, "| `%s %s` | %s | %s | %s | %s |\n", r.Method, r.Path, r.Summary, who(&r), sent(r.RequestBody, r.Request != nil, schemaName(r.Request)),
				fmt.Sprintf("%d %s", r.Status, sent(r.ResponseBody, r.Response != nil, schemaName(r.Response))))
			for _, p := range r.Params {
				fmt.Fprintf(&out, "| &nbsp;&nbsp;%s `%s` | %s | | | |\n", p.In, p.Name, p.Description)
			}
		}
	}
	return []byte(out.String())
}

// who may use a route.
func who(r *api.Route) string {
	switch r.Scope {
	case api.Public:
		return "anybody"
	case api.Anyone:
		return "any token"
	case api.OfHost:
		return string(r.Role) + " of the host"
	}
	return string(r.Role)
}

// sent is how a body is sent.
func sent(body api.Body, typed bool, name string) string {
	switch {
	case typed && body == api.BodyStream:
		return name + " per line"
	case typed:
		return name
	case body != "":
		return "`" + string(body) + "`"
	}
	return ""
}
