package openapi

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"sfc/ctrl/api"
)

// readDocs reads the doc comments of the types in a folder, by Type and by
// Type.Field.
func readDocs(dir string) (map[string]string, error) {
	docs := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("read the sources in %s: %d files: %w", dir, len(files), os.ErrNotExist)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok || decl.Tok != token.TYPE {
				return true
			}
			for _, spec := range decl.Specs {
				t := spec.(*ast.TypeSpec)
				doc := t.Doc
				if doc == nil {
					doc = decl.Doc
				}
				docs[t.Name.Name] = plain(doc)
				fields, ok := t.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, field := range fields.Fields.List {
					for _, name := range field.Names {
						docs[t.Name.Name+"."+name.Name] = plain(field.Doc)
					}
				}
			}
			return false
		})
	}
	return docs, nil
}

// plain is a doc comment as one line, without the marks of links.
func plain(doc *ast.CommentGroup) string {
	text := strings.Join(strings.Fields(doc.Text()), " ")
	return strings.NewReplacer("[", "", "]", "").Replace(text)
}

// schemas makes the schemas of types, each once.
type schemas struct {
	docs map[string]string
	made object
	err  error
}

// custom are types whose JSON is not what their Go says. Where JSON Schema 2020
// and the dialect of OpenAPI 3.0 differ, what both understand is used.
var custom = map[reflect.Type]object{
	reflect.TypeFor[time.Time]():       {"type": "string", "format": "date-time"},
	reflect.TypeFor[json.RawMessage](): {"type": "object", "additionalProperties": true},
	reflect.TypeFor[[]byte]():          {"type": "string", "format": "byte"},
	reflect.TypeFor[api.Bytes]():       {"type": "string", "pattern": `^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$`, "example": "64Mi"},
	reflect.TypeFor[api.Count]():       {"type": "string", "pattern": `^[0-9]+(k|M|G|T)?$`, "example": "100k"},
	reflect.TypeFor[api.Share]():       {"type": "string", "pattern": `^[0-9]+(\.[0-9])?%?$`, "example": "50%"},
	reflect.TypeFor[api.Role]():        {"type": "string", "enum": []string{"admin", "deployer", "viewer"}},
	reflect.TypeFor[api.IntOrText]():   {"oneOf": []object{{"type": "integer"}, {"type": "string"}}},
}

// of returns the schema of a type; structs become components.
func (s *schemas) of(t reflect.Type) object {
	if schema, ok := custom[t]; ok {
		out := object{}
		for k, v := range schema {
			out[k] = v
		}
		return out
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number", "format": "double"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.component(t)
	default:
		s.err = fmt.Errorf("%v has no schema", t)
		return object{}
	}
}

// component makes the schema of a struct, if it is not made yet, and refers to
// it.
func (s *schemas) component(t reflect.Type) object {
	name := schemaName(t)
	if s.made[name] != nil {
		return ref(name)
	}
	s.made[name] = object{} // types may hold themselves
	schema := object{}
	if t == reflect.TypeFor[api.ChainReturn]() {
		schema["oneOf"] = []object{
			{"type": "string", "enum": []string{"none", "mirrored"}},
			s.of(reflect.TypeFor[api.ChainReturnPath]()),
		}
	} else {
		schema = s.structure(t)
	}
	if doc := s.docs[strings.SplitN(t.Name(), "[", 2)[0]]; doc != "" {
		schema["description"] = doc
	}
	s.made[name] = schema
	return ref(name)
}

// schemaName is the name of a type's component: List[sfc/ctrl/api.Chain] is
// ChainList.
func schemaName(t reflect.Type) string {
	if t == nil {
		return ""
	}
	base, arg, generic := strings.Cut(t.Name(), "[")
	if !generic {
		return base
	}
	return strings.TrimSuffix(arg[strings.LastIndexByte(arg, '.')+1:], "]") + base
}

// structure describes the fields of a struct.
func (s *schemas) structure(t reflect.Type) object {
	properties, required := object{}, []string{}
	s.fields(t, properties, &required)
	schema := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

func (s *schemas) fields(t reflect.Type, properties object, required *[]string) {
	owner := strings.SplitN(t.Name(), "[", 2)[0]
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			s.fields(f.Type, properties, required)
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		schema := s.of(f.Type)
		doc := s.docs[owner+"."+f.Name]
		if enum := f.Tag.Get("enum"); enum != "" && schema["enum"] == nil {
			schema["enum"] = strings.Split(enum, ",")
		}
		for _, bound := range []string{"minimum", "maximum"} {
			if n, err := strconv.Atoi(f.Tag.Get(bound)); err == nil {
				schema[bound] = n
			}
		}
		// Beside $ref other words are ignored by OpenAPI 3.0.
		if doc != "" && schema["$ref"] == nil {
			schema["description"] = doc
		}
		properties[name] = schema
		if !strings.Contains(options, "omitzero") {
			*required = append(*required, name)
		}
	}
}
