package api

import _ "embed"

// OpenAPI is the description of the API, made of the table of routes and the
// types of this package by sfc/ctrl/api/openapi.
//
//go:generate go test ./openapi -run TestFresh -update
//go:embed openapi.json
var OpenAPI []byte
