// Package openapi makes the OpenAPI 3.1 document of the API from the table of
// routes and the types of sfc/ctrl/api, with their doc comments. Nothing of it
// runs in the daemon, which embeds the document.
//
// It uses what OpenAPI 3.0 and 3.1 have in common, so that generators of clients
// that know only the older one take it, too.
package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sfc/ctrl/api"
)

// object is an object in JSON.
type object = map[string]any

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

// Document returns the document. sources is the folder of package api, whose doc
// comments become descriptions.
func Document(sources string) ([]byte, error) {
	docs, err := readDocs(sources)
	if err != nil {
		return nil, err
	}
	s := &schemas{docs: docs, made: object{}}
	paths := object{}
	tags := map[string]bool{}
	for _, r := range api.Routes() {
		path, _ := paths[r.Path].(object)
		if path == nil {
			path = object{}
			paths[r.Path] = path
		}
		method := strings.ToLower(r.Method)
		if path[method] != nil {
			return nil, fmt.Errorf("%s %s is there twice", r.Method, r.Path)
		}
		path[method] = s.operation(&r)
		tags[r.Tag] = true
	}
	s.of(reflect.TypeFor[api.Problem]())
	var list []object
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, object{"name": tag})
	}
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title":       "sfcd",
			"version":     "1",
			"description": "The API of sfcd. Over its unix socket callers are known by their user; over TLS they send a bearer token. What a caller may not know of is answered as what does not exist.",
			"license":     object{"name": "see the file LICENSE"},
		},
		"servers": []object{{"url": "/"}},
		"tags":    list,
		"paths":   paths,
		"components": object{
			"schemas":         s.made,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
			"responses": object{"Problem": object{
				"description": "Why it was not done (RFC 9457)",
				"content":     object{api.ProblemType: object{"schema": ref("Problem")}},
			}},
		},
	}
	if s.err != nil {
		return nil, s.err
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	return append(data, '\n'), err
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// operation describes a route.
func (s *schemas) operation(r *api.Route) object {
	op := object{
		"operationId": r.Operation,
		"summary":     r.Summary,
		"tags":        []string{r.Tag},
		"responses": object{
			strconv.Itoa(r.Status): s.response(r),
			"default":              object{"$ref": "#/components/responses/Problem"},
		},
		"x-idempotent": r.Idempotent,
		"x-scope":      string(r.Scope),
	}
	if r.Role != "" {
		op["x-role"] = string(r.Role)
		op["security"] = []object{{"token": []string{}}}
	} else {
		op["security"] = []object{}
	}
	if r.Status == 201 {
		same := maps.Clone(s.response(r))
		same["description"] = "It is there already, the very same"
		op["responses"].(object)["200"] = same
	}
	if r.Method == "PUT" && r.Status == 200 {
		made := maps.Clone(s.response(r))
		made["description"] = "It was made"
		op["responses"].(object)["201"] = made
	}
	var params []object
	for _, m := range pathParam.FindAllStringSubmatch(r.Path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range r.Params {
		params = append(params, object{"name": p.Name, "in": p.In, "description": p.Description, "schema": object{"type": p.Type}})
	}
	if params != nil {
		op["parameters"] = params
	}
	if r.RequestBody != "" {
		op["requestBody"] = object{"required": true, "content": object{string(r.RequestBody): s.media(r.Request)}}
	}
	if r.Watches {
		event, ok := s.watchEvent(r.Response)
		if ok {
			op["x-watch-event"] = event
		}
	}
	return op
}

// response describes what a route answers with.
func (s *schemas) response(r *api.Route) object {
	out := object{"description": "Done"}
	if r.ResponseBody != "" {
		out["content"] = object{string(r.ResponseBody): s.media(r.Response)}
	}
	return out
}

// media describes a body: JSON of a type, or bytes.
func (s *schemas) media(t reflect.Type) object {
	if t == nil {
		return object{"schema": object{}}
	}
	return object{"schema": s.of(t)}
}

// watchEvent describes a line of the watch of a list.
func (s *schemas) watchEvent(list reflect.Type) (object, bool) {
	items, ok := list.FieldByName("Items")
	if !ok {
		return nil, false
	}
	name := items.Type.Elem().Name() + "WatchEvent"
	if s.made[name] == nil {
		event := reflect.TypeFor[api.WatchEvent[api.Chain]]()
		schema := s.structure(event)
		schema["properties"].(object)["object"] = s.of(items.Type.Elem())
		schema["description"] = s.docs["WatchEvent"]
		s.made[name] = schema
	}
	return ref(name), true
}
