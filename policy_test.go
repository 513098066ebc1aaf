package thaw_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/doc"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

// The tests of this file hold the repository to its own rules: what may import what, what must be documented,
// and that the documentation says what the code does. They read the source tree; none of them opens a
// connection.

const module = "github.com/thawhttp/thaw"

// leaves are the packages that client composes. They know nothing of client and nothing of each other.
var leaves = []string{"transport", "retry", "tracing"}

// banned names what a program that imports only client must not link, with the reason. A name stands for the
// package and for everything below it.
var banned = map[string]string{
	"github.com/aws/aws-xray-sdk-go": "links gRPC and fasthttp, 5.6 MB: who traces imports tracing/xray",
	"github.com/aws/aws-lambda-go":   "the client also serves programs that are not Lambda functions, and the runtime links net/rpc",
	"github.com/aws/aws-sdk-go-v2":   "the client is passed to an SDK, it does not bring one",
	"go.opentelemetry.io":            "who traces with it imports tracing/otel",
	"google.golang.org/grpc":         "5 MB that an HTTP client has no use for",
	"google.golang.org/protobuf":     "comes only with gRPC or OpenTelemetry exporters",
	"github.com/valyala/fasthttp":    "a second HTTP implementation",
	"github.com/jarcoal/httpmock":    "a test double: tests import it and hand it to client.WithBase",
	"github.com/stretchr/testify":    "for tests",
	"github.com/santhosh-tekuri":     "for tests: validates what metrics and tracing/xray write",
	"go.uber.org/goleak":             "for tests",
	"testing":                        "for tests",
	"net/http/httptest":              "for tests; it registers a flag in every program that links it",
	"net/http/pprof":                 "registers handlers on http.DefaultServeMux",
	"expvar":                         "registers a handler on http.DefaultServeMux",
	"net/rpc":                        "2 MB; registers handlers",
	module + "/lambdatest":           "for tests",
	module + "/lambdahandler":        "imports the Lambda runtime",
	module + "/clienttest":           "for tests",
	module + "/tracing/xray":         "imports the X-Ray SDK",
	module + "/tracing/otel":         "imports OpenTelemetry",
	module + "/metrics":              "not every program writes metrics",
	module + "/internal/xraydaemon":  "for tests and the example",
	module + "/cmd":                  "commands are not libraries",
	module + "/examples":             "examples are not libraries",
}

// adapters are the packages that exist because of an SDK, with its name in banned. They know tracing, and nothing else of
// this module that has a name, but for the pool whose statistics tracing/otel reads.
var adapters = map[string]string{
	"tracing/xray": "github.com/aws/aws-xray-sdk-go",
	"tracing/otel": "go.opentelemetry.io",
}

// sleepers are the test functions that may call time.Sleep outside a synctest bubble, with the reason: only
// bounded polling of something that gives no signal. The key is the folder, a
// colon and the function.
var sleepers = map[string]string{
	"transport:eventually":    "bounded polling of what gives no signal",
	"transport:handle":        "a server within a synctest bubble",
	"tracing:eventually":      "bounded polling of what gives no signal",
	"tracing/xray:eventually": "bounded polling of the X-Ray SDK, which gives no signal",
	"internal/trial:poll":     "bounded polling of servers that start and stop, which give no signal",
	"clienttest:eventually":   "bounded polling of what gives no signal",
	"transport:do":            "an operation of FuzzPool, within a synctest bubble",
	"transport:end":           "the end of FuzzPool, within a synctest bubble",
}

func TestLeavesImportNeitherTheClientNorEachOther(t *testing.T) {
	deps := listDeps(t, runtime.GOOS, runtime.GOARCH)
	for _, leaf := range leaves {
		got, ok := deps[module+"/"+leaf]
		if !ok {
			if leaf == "transport" {
				t.Error("go list ./... knows no transport: has the package moved?")
			}
			continue // not written yet
		}
		for _, other := range append([]string{"client"}, leaves...) {
			if other != leaf && slices.Contains(got, module+"/"+other) {
				t.Errorf("%s imports %s, directly or not: leaves import neither client nor each other", leaf, other)
			}
		}
	}
}

func TestAProgramThatImportsOnlyTheClientLinksNoSDK(t *testing.T) {
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"} {
		goos, goarch, _ := strings.Cut(platform, "/")
		all := listDeps(t, goos, goarch)
		deps := all[module+"/client"]
		if !slices.Contains(deps, module+"/transport") || !slices.Contains(deps, "net/http") {
			t.Fatalf("%s: the dependencies of client lack transport or net/http, so this test looks in the wrong place: %q", platform, deps)
		}
		for _, pkg := range append([]string{"client"}, leaves...) {
			for name, reason := range banned {
				if linked := below(all[module+"/"+pkg], name); len(linked) > 0 {
					t.Errorf("%s: %s links %s: %s", platform, pkg, linked, reason)
				}
			}
		}
		for adapter, sdk := range adapters {
			deps := all[module+"/"+adapter]
			if banned[sdk] == "" || len(below(deps, sdk)) == 0 {
				t.Errorf("%s: %s does not link %s, or that is not banned, so this test looks for the wrong name", platform, adapter, sdk)
			}
			for _, other := range []string{"client", "transport", "retry", "metrics", "lambdahandler", "lambdatest", "internal/xraydaemon"} {
				if slices.Contains(deps, module+"/"+other) && adapter+" "+other != "tracing/otel transport" {
					t.Errorf("%s: %s links %s: it needs nothing but tracing", platform, adapter, other)
				}
			}
			for name := range adapters {
				if name != adapter && slices.Contains(deps, module+"/"+name) {
					t.Errorf("%s: %s links %s, and with it another SDK", platform, adapter, name)
				}
			}
			if linked := below(all[module+"/lambdahandler"], sdk); len(linked) > 0 {
				t.Errorf("%s: lambdahandler links %s: %s", platform, linked, banned[sdk])
			}
		}
		if linked := below(all[module+"/tracing/otel"], "go.opentelemetry.io/otel/sdk"); len(linked) > 0 {
			t.Errorf("%s: tracing/otel links %s: the SDK is the program's choice, the adapter needs the API alone", platform, linked)
		}
	}
}

// below returns which of the packages are the named one, or below it.
func below(pkgs []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(pkgs), func(pkg string) bool { return pkg != name && !strings.HasPrefix(pkg, name+"/") })
}

// The bounds on what a stripped program grows by, in bytes.
const (
	poolAdds = 1230 << 10 // the pool, to one that uses net/http
	// The client, to a Lambda function that uses net/http and logs: as go build makes it, with net/rpc, with which it links
	// regular expressions already; and without, as AWS advises for the provided runtimes.
	lambdaAdds      = 1270 << 10
	lambdaNoRPCAdds = 1300 << 10
	// The client to one that uses net/http and nothing else: a third of a MiB is go-retryablehttp, because that compiles
	// regular expressions, and a sixth is log/slog.
	clientAdds = 1590 << 10
)

func TestWhatIsAddedToAProgramIsBounded(t *testing.T) {
	dir := t.TempDir()
	size := func(tags, name, body string, imports ...string) int64 {
		src := filepath.Join(dir, name+".go")
		code := "package main\n\nimport (\n\t\"" + strings.Join(imports, "\"\n\t\"") + "\"\n)\n\nfunc main() {\n" + body + "\n}\n"
		if err := os.WriteFile(src, []byte(code), 0o644); err != nil {
			t.Fatal(err)
		}
		bin := filepath.Join(dir, name)
		goTool(t, nil, "build", "-tags="+tags, "-ldflags=-s -w", "-o", bin, src)
		info, err := os.Stat(bin)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	const (
		url     = "(\"http://127.0.0.1:1\")"
		program = "_, err := %s" + url + "\n_ = err"
		lambda  = "lambda.Start(func() { _, err := %s" + url + "; slog.Info(\"got\", \"err\", err) })"

		plain, pooled, thawed = "http.Get", "(&http.Client{Transport: transport.Shared()}).Get", "client.Default().Get"
	)
	of := func(form, get string) string { return fmt.Sprintf(form, get) }
	function := func(tags string) (without, with int64) {
		const start = "github.com/aws/aws-lambda-go/lambda"
		return size(tags, "function"+tags, of(lambda, plain), start, "log/slog", "net/http"),
			size(tags, "functionclient"+tags, of(lambda, thawed), start, "log/slog", module+"/client")
	}
	const noRPC = "lambda.norpc"
	bare := size("", "bare", of(program, plain), "net/http")
	rpcWithout, rpcWith := function("")
	without, with := function(noRPC)
	for _, c := range []struct {
		what       string
		from, size int64
		most       int64
	}{
		{"the pool, to a program with net/http", bare, size("", "pool", of(program, pooled), "net/http", module+"/transport"), poolAdds},
		{"the client, to a program with net/http", bare, size("", "client", of(program, thawed), module+"/client"), clientAdds},
		{"the client, to a Lambda function with net/http", rpcWithout, rpcWith, lambdaAdds},
		{"the client, to one built with " + noRPC, without, with, lambdaNoRPCAdds},
	} {
		t.Logf("%s: %d KiB more, to %d bytes stripped", c.what, (c.size-c.from)>>10, c.size)
		// The bounds are for Lambda's platform and the Go of go.mod: other linkers round otherwise, and from Go 1.27 on
		// log/slog links encoding/json/v2.
		bounded := runtime.GOOS == "linux" && runtime.GOARCH == "amd64" && strings.HasPrefix(runtime.Version(), "go1.26")
		if bounded && c.size-c.from > c.most {
			t.Errorf("%s: %d bytes more, want at most %d", c.what, c.size-c.from, c.most)
		}
	}
}

func TestTheRootModuleReplacesNothing(t *testing.T) {
	var mod struct {
		Module  struct{ Path string }
		Replace []struct{ Old struct{ Path string } }
	}
	if err := json.Unmarshal(goTool(t, nil, "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	if mod.Module.Path != module {
		t.Errorf("go.mod is of module %s, want %s", mod.Module.Path, module)
	}
	for _, r := range mod.Replace {
		t.Errorf("go.mod replaces %s: a replace has no effect for users, who would get code that was never tested", r.Old.Path)
	}
}

func TestEveryFolderHasExactlyOnePackageComment(t *testing.T) {
	t.Parallel()
	docs := make(map[string][]string) // by folder
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		dir := path.Dir(f.name)
		docs[dir] = append(docs[dir], "")[:len(docs[dir])] // the folder is known, even without a comment
		if f.ast.Doc == nil {
			continue
		}
		docs[dir] = append(docs[dir], f.name)
		if pkg := f.ast.Name.Name; pkg != "main" && !strings.HasPrefix(f.ast.Doc.Text(), "Package "+pkg+" ") {
			t.Errorf("%s: the package comment does not start with %q", f.name, "Package "+pkg)
		}
	}
	for dir, files := range docs {
		if len(files) != 1 {
			t.Errorf("folder %s has %d package comments %q, want exactly one", dir, len(files), files)
		}
	}
}

func TestNoPackageIsNamedForWhatItIsNot(t *testing.T) {
	t.Parallel()
	vague := regexp.MustCompile(`^(util|utils|utility|helper|helpers|common|shared|misc|base|manager|test|tests|testing|testutil)$`)
	for _, f := range sources(t) {
		pkg := strings.TrimSuffix(f.ast.Name.Name, "_test")
		if vague.MatchString(pkg) {
			t.Errorf("%s: package %s: name a package after what it provides", f.name, pkg)
		}
		if dir := path.Base(path.Dir(f.name)); vague.MatchString(dir) {
			t.Errorf("%s: folder %s: name a folder after what is in it", f.name, dir)
		}
	}
}

func TestMarkersOfUnfinishedWorkNameAnIssue(t *testing.T) {
	t.Parallel()
	marker := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b(\(#[0-9]+\))?`)
	check := func(at, text string) {
		for _, m := range marker.FindAllStringSubmatch(text, -1) {
			if m[2] == "" {
				t.Errorf("%s: %s without an issue: write %s(#12), or do it", at, m[1], m[1])
			}
		}
	}
	for _, f := range sources(t) {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				check(f.fset.Position(c.Pos()).String(), c.Text)
			}
		}
	}
	for _, name := range append(markdown(t), "Makefile", ".golangci.yml", ".ci/run") {
		check(name, read(t, name))
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	t.Parallel()
	unused := maps.Clone(sleepers)
	for _, f := range sources(t) {
		if !f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			at := path.Dir(f.name) + ":" + fn.Name.Name
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				switch types.ExprString(call.Fun) {
				case "synctest.Test", "bubble": // the latter is a test's own way to call the former
					return false // time is fake in there
				case "time.Sleep":
					delete(unused, at)
					if sleepers[at] == "" {
						t.Errorf("%s: %s sleeps: use testing/synctest or wait for a signal; bounded polling is listed, with its reason, in sleepers",
							f.fset.Position(call.Pos()), fn.Name.Name)
					}
				}
				return true
			})
		}
	}
	for at := range unused {
		t.Errorf("sleepers lists %s, which does not sleep: take it off the list", at)
	}
}

func TestEveryExportedIdentifierIsDocumented(t *testing.T) {
	t.Parallel()
	documented := func(groups ...*ast.CommentGroup) bool {
		return slices.ContainsFunc(groups, func(g *ast.CommentGroup) bool { return strings.TrimSpace(g.Text()) != "" })
	}
	for _, f := range sources(t) {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		missing := func(n ast.Node, what string) {
			t.Errorf("%s: %s has no comment", f.fset.Position(n.Pos()), what)
		}
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				// What Error and Unwrap do, the error interface and package errors say.
				conventional := d.Recv != nil && (d.Name.Name == "Error" || d.Name.Name == "Unwrap")
				if d.Name.IsExported() && receiverExported(d) && !conventional && !documented(d.Doc) {
					missing(d, "func "+d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.ValueSpec:
						for _, name := range s.Names {
							// A comment over a group of constants speaks for all of them.
							if name.IsExported() && !documented(d.Doc, s.Doc, s.Comment) {
								missing(name, d.Tok.String()+" "+name.Name)
							}
						}
					case *ast.TypeSpec:
						if !s.Name.IsExported() {
							continue
						}
						if !documented(s.Doc, s.Comment) && (d.Lparen.IsValid() || !documented(d.Doc)) {
							missing(s, "type "+s.Name.Name)
						}
						iface, ok := s.Type.(*ast.InterfaceType)
						if !ok {
							continue
						}
						for _, method := range iface.Methods.List {
							for _, name := range method.Names {
								if name.IsExported() && !documented(method.Doc, method.Comment) {
									missing(name, s.Name.Name+"."+name.Name)
								}
							}
						}
					}
				}
			}
		}
	}
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return false
		}
	}
}

// The comment of a number in transport.Config says its default in one of these forms.
var (
	meansConstant = regexp.MustCompile(`Zero means (Default\w+) \(([^)]+)\)`)
	meansField    = regexp.MustCompile(`Zero means the value of (\w+)`)
	meansOff      = regexp.MustCompile(`Zero and Disabled mean `)
	meansNil      = regexp.MustCompile(`Nil means `)
	saysDisabled  = regexp.MustCompile(`Disabled mean`)
)

func TestCommentsOfConfigNameTheDefaultsInForce(t *testing.T) {
	t.Parallel()
	comments := configComments(t)
	constants := configConstants(t)
	inForce := defaults(t)
	usedConstants := make(map[string]bool)
	for field := range reflect.TypeFor[transport.Config]().Fields() {
		comment, ok := comments[field.Name]
		if !ok {
			t.Errorf("Config.%s has no comment", field.Name)
			continue
		}
		switch field.Type.Kind() {
		case reflect.Bool:
			if inForce.FieldByName(field.Name).Bool() {
				t.Errorf("Config.%s is true by default: the zero value must be the default", field.Name)
			}
			continue
		case reflect.Int, reflect.Int64: // below
		default:
			if !meansNil.MatchString(comment) {
				t.Errorf("the comment of Config.%s does not say what nil means", field.Name)
			}
			continue
		}

		got := inForce.FieldByName(field.Name).Int()
		if !saysDisabled.MatchString(comment) {
			t.Errorf("the comment of Config.%s does not say what Disabled means", field.Name)
		}
		if m := meansConstant.FindStringSubmatch(comment); m != nil {
			usedConstants[m[1]] = true
			value, ok := constants[m[1]]
			if !ok {
				t.Errorf("the comment of Config.%s names %s, which is no constant of the package", field.Name, m[1])
				continue
			}
			if got != value {
				t.Errorf("Config.%s is %s by default, but its comment says %s, which is %s", field.Name, show(field, got), m[1], show(field, value))
			}
			for part := range strings.SplitSeq(m[2], ", ") { // "64 KiB, 65536"
				if said, err := parseDefault(part); err != nil || said != value {
					t.Errorf("the comment of Config.%s says (%s), but %s is %s (%v)", field.Name, m[2], m[1], show(field, value), err)
				}
			}
		} else if m := meansField.FindStringSubmatch(comment); m != nil {
			other := inForce.FieldByName(m[1])
			if !other.IsValid() {
				t.Errorf("the comment of Config.%s names %s, which is no field", field.Name, m[1])
			} else if got != other.Int() {
				t.Errorf("Config.%s is %s by default, but its comment says that it is as %s, which is %s", field.Name, show(field, got), m[1], show(field, other.Int()))
			}
		} else if meansOff.MatchString(comment) {
			if got != transport.Disabled {
				t.Errorf("Config.%s is %s by default, but its comment says that it is off", field.Name, show(field, got))
			}
		} else {
			t.Errorf("the comment of Config.%s does not say what zero means", field.Name)
		}
	}
	for name := range constants {
		if !usedConstants[name] {
			t.Errorf("no field's comment names %s", name)
		}
	}
}

func TestCommentOfWithTimeoutNamesTheDefaultInForce(t *testing.T) {
	t.Parallel()
	src := read(t, "client/option.go")
	m := regexp.MustCompile(`\[DefaultTimeout\] \(([^)]+)\)`).FindStringSubmatch(src)
	if m == nil {
		t.Fatal("the comment of WithTimeout does not say what [DefaultTimeout] is")
	}
	if d, err := time.ParseDuration(m[1]); err != nil || d != client.DefaultTimeout {
		t.Errorf("the comment of WithTimeout says %s, but DefaultTimeout is %v", m[1], client.DefaultTimeout)
	}
}

func TestTablesOfDefaultsInTheDocumentationAreRight(t *testing.T) {
	t.Parallel()
	inForce, retries := defaults(t), retryDefaults(t)
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]+) \\|")
	for name, all := range map[string]reflect.Value{"README.md": {}, "docs/configuration.md": inForce, "docs/retry.md": retries} {
		rows := row.FindAllStringSubmatch(read(t, name), -1)
		if len(rows) == 0 {
			t.Errorf("%s has no table of defaults", name)
		}
		seen := make(map[string]bool)
		for _, r := range rows {
			option, text := r[1], strings.TrimSpace(r[2])
			if seen[option] {
				t.Errorf("%s has two rows for %s", name, option)
			}
			seen[option] = true
			if option == "WithTimeout" {
				if got, err := parseDefault(text); err != nil || got != int64(client.DefaultTimeout) {
					t.Errorf("%s says that %s is %s, but it is %v", name, option, text, client.DefaultTimeout)
				}
				continue
			}
			from := inForce
			if retries.FieldByName(option).IsValid() {
				from = retries
			}
			field := from.FieldByName(option)
			switch {
			case !field.IsValid():
				t.Errorf("%s has a row for %s, which transport.Config and retry.Policy lack", name, option)
			case field.CanInt():
				want := field.Int()
				var got int64
				var err error
				if other, ok := strings.CutPrefix(text, "as `"); ok {
					if f := from.FieldByName(strings.TrimSuffix(other, "`")); f.IsValid() {
						got = f.Int()
					}
				} else if text == "no limit" {
					got = transport.Disabled
				} else {
					got, err = parseDefault(text)
				}
				if err != nil || got != want {
					f, _ := from.Type().FieldByName(option)
					t.Errorf("%s says that %s is %s, but it is %s", name, option, text, show(f, want))
				}
			case field.Kind() == reflect.Bool:
				if text != strconv.FormatBool(field.Bool()) {
					t.Errorf("%s says that %s is %s, but it is %t", name, option, text, field.Bool())
				}
			}
		}
		if !all.IsValid() {
			continue
		}
		for f := range all.Type().Fields() {
			if !seen[f.Name] {
				t.Errorf("%s has no row for %s", name, f.Name)
			}
		}
		for c := range reflect.TypeFor[transport.Closed]().Fields() {
			if !strings.Contains(read(t, "docs/pool.md"), "`"+c.Name+"`") {
				t.Errorf("docs/pool.md does not explain the reason Closed.%s", c.Name)
			}
		}
	}
}

// defaults returns the configuration that is in force when nothing is configured.
func defaults(t *testing.T) reflect.Value {
	t.Helper()
	tr, err := transport.New(transport.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	return reflect.ValueOf(tr.Config())
}

// retryDefaults returns the policy that is in force when nothing is configured. That the constants are what is, a test of
// package retry checks.
func retryDefaults(t *testing.T) reflect.Value {
	t.Helper()
	return reflect.ValueOf(retry.Policy{
		MaxAttempts:    retry.DefaultMaxAttempts,
		MinBackoff:     retry.DefaultMinBackoff,
		MaxBackoff:     retry.DefaultMaxBackoff,
		AttemptTimeout: retry.Disabled,
		Budget:         retry.DefaultBudget,
	})
}

// show prints v the way the field's type prints.
func show(f reflect.StructField, v int64) string {
	return fmt.Sprint(reflect.ValueOf(v).Convert(f.Type))
}

// parseDefault reads a default as the documentation writes it: 64, 1,024, 64 KiB, 1 MiB, 5m, 50ms.
func parseDefault(s string) (int64, error) {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(strings.ReplaceAll(s, ",", ""), 10, 64); err == nil {
		return n, nil
	}
	for unit, factor := range map[string]int64{" KiB": 1 << 10, " MiB": 1 << 20} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			return n * factor, err
		}
	}
	d, err := time.ParseDuration(s)
	return int64(d), err
}

// configComments returns the comment of each field of transport.Config, on one line.
func configComments(t *testing.T) map[string]string {
	t.Helper()
	comments := make(map[string]string)
	_, file := configFile(t)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Config" {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			for _, name := range field.Names {
				if text := strings.Join(strings.Fields(field.Doc.Text()), " "); text != "" {
					comments[name.Name] = text
				}
			}
		}
		return false
	})
	return comments
}

// configConstants returns the values of the constants Default… that stand beside transport.Config.
func configConstants(t *testing.T) map[string]int64 {
	t.Helper()
	fset, file := configFile(t)
	// Only the constants are type-checked, and time is all they import: no need to load net/http.
	file.Imports = nil
	file.Decls = slices.DeleteFunc(file.Decls, func(d ast.Decl) bool {
		gen, ok := d.(*ast.GenDecl)
		return !ok || gen.Tok != token.CONST && gen.Tok != token.IMPORT
	})
	for _, d := range file.Decls {
		gen := d.(*ast.GenDecl)
		gen.Specs = slices.DeleteFunc(gen.Specs, func(s ast.Spec) bool {
			imp, ok := s.(*ast.ImportSpec)
			return ok && imp.Path.Value != `"time"`
		})
	}
	conf := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	pkg, err := conf.Check("transport", fset, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]int64)
	for _, name := range pkg.Scope().Names() {
		if c, ok := pkg.Scope().Lookup(name).(*types.Const); ok && strings.HasPrefix(name, "Default") {
			v, exact := constant.Int64Val(constant.ToInt(c.Val()))
			if !exact {
				t.Errorf("%s is %v, no whole number", name, c.Val())
			}
			values[name] = v
		}
	}
	return values
}

func configFile(t *testing.T) (*token.FileSet, *ast.File) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "transport/config.go", nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return fset, file
}

func TestLinksInTheDocumentationResolve(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	links := 0
	for _, name := range markdown(t) {
		prose, _ := fences(read(t, name))
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			target := m[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(target, "#")
			if file == "" {
				file = name
			} else {
				file = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s: %v", name, target, err)
				continue
			}
			if anchor != "" && strings.HasSuffix(file, ".md") && !slices.Contains(anchors(read(t, file)), anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", name, target, file)
			}
		}
	}
	if links == 0 {
		t.Error("found no link at all, so this test looks in the wrong place")
	}
	index := read(t, "docs/README.md")
	for _, name := range markdown(t) {
		if rel, ok := strings.CutPrefix(name, "docs/"); ok && rel != "README.md" && !strings.Contains(index, "("+rel+")") {
			t.Errorf("docs/README.md does not link to %s", rel)
		}
	}
}

// anchors returns the fragments of the headings of a Markdown text, as code hosts derive them.
func anchors(text string) []string {
	prose, _ := fences(text)
	var out []string
	for line := range strings.Lines(prose) {
		heading := strings.TrimSpace(strings.TrimLeft(line, "#"))
		if !strings.HasPrefix(line, "#") {
			continue
		}
		out = append(out, strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, heading))
	}
	return out
}

// snippets are the files whose code the documentation may show.
var snippets = []struct {
	pattern string
	tests   bool // code of tests may be shown too: what uses clienttest has its place there
}{
	{"client_test.go", false},
	{"clienttest/example_test.go", true},
	{"internal/e2e/*_test.go", false},
}

func TestGoSnippetsInTheDocumentationAreCodeThatRuns(t *testing.T) {
	t.Parallel()
	var sources []string
	for _, s := range snippets {
		files, err := filepath.Glob(s.pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no file is called %s (%v)", s.pattern, err)
		}
		for _, name := range files {
			sources = append(sources, exampleLines(t, name, s.tests))
		}
	}
	found := 0
	for _, name := range markdown(t) {
		_, blocks := fences(read(t, name))
		for _, b := range blocks {
			if b.lang != "go" {
				continue
			}
			found++
			if !slices.ContainsFunc(sources, func(code string) bool { return shows(b.text, code) }) {
				t.Errorf("%s:%d: this code is in no Example of client_test.go and in none of the other files that run it:\n%s", name, b.line, b.text)
			}
		}
	}
	if found == 0 {
		t.Error("found no snippet at all, so this test looks in the wrong place")
	}
}

// shows reports whether code has what a snippet shows. A line of dots stands for code that is left out: what is between
// such lines must be in code word for word, and in this order.
func shows(snippet, code string) bool {
	for part := range strings.SplitSeq("\n"+strings.Join(codeLines(snippet), "\n")+"\n", "\n...\n") {
		part = strings.Trim(part, "\n") + "\n"
		if part == "\n" {
			continue
		}
		_, after, ok := strings.Cut(code, "\n"+part)
		if !ok {
			return false
		}
		code = "\n" + after
	}
	return true
}

// exampleLines returns the lines of a file that belong to an Example, or to a declaration at the top level that is not
// a test, or with tests to any, without indentation and empty lines. The Examples must run: an Example without output is
// only compiled.
func exampleLines(t *testing.T, name string, tests bool) string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, ex := range doc.Examples(file) {
		if ex.Output == "" && !ex.EmptyOutput {
			t.Errorf("Example%s has no output, so it does not run", ex.Name)
		}
	}
	src := read(t, name)
	var lines []string
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Test") && !tests {
			continue
		}
		start := decl.Pos()
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Doc != nil {
				start = d.Doc.Pos()
			}
		case *ast.GenDecl:
			if d.Doc != nil {
				start = d.Doc.Pos()
			}
		}
		lines = append(lines, codeLines(src[fset.Position(start).Offset:fset.Position(decl.End()).Offset])...)
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}

// codeLines returns the lines of s without indentation and empty lines.
func codeLines(s string) []string {
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestCommandsInTheDocumentationExist(t *testing.T) {
	t.Parallel()
	makefile := read(t, "Makefile")
	folder := regexp.MustCompile(`(?m)^\$? ?(?:cd (\w+) &&.*|(?:[A-Z_]+=\S+ )*go (?:run|test|build|vet)\b.*?(\./[\w/]+).*)$`)
	target := regexp.MustCompile(`\bmake ([a-z][a-z-]*)\b`)
	for _, name := range markdown(t) {
		text := read(t, name)
		_, blocks := fences(text)
		for _, b := range blocks {
			if b.lang != "sh" {
				continue
			}
			for _, m := range folder.FindAllStringSubmatch(b.text, -1) {
				dir := m[1] + m[2]
				if info, err := os.Stat(path.Join(path.Clean(dir))); err != nil || !info.IsDir() {
					t.Errorf("%s:%d: %s: there is no folder %s", name, b.line, m[0], dir)
				}
			}
			for _, m := range target.FindAllStringSubmatch(b.text, -1) {
				if !strings.Contains(makefile, "\n"+m[1]+":") {
					t.Errorf("%s:%d: the Makefile has no target %s", name, b.line, m[1])
				}
			}
		}
		for _, m := range regexp.MustCompile("`make ([a-z][a-z-]*)`").FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: the Makefile has no target %s", name, m[1])
			}
		}
	}
}

func TestNamesInTheDocumentationExist(t *testing.T) {
	t.Parallel()
	exported := make(map[string]bool)
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		pkg := f.ast.Name.Name
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				exported[pkg+"."+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.ValueSpec:
						for _, n := range s.Names {
							exported[pkg+"."+n.Name] = true
						}
					case *ast.TypeSpec:
						exported[pkg+"."+s.Name.Name] = true
					}
				}
			}
		}
	}
	name := regexp.MustCompile(`\b(client|clienttest|transport|retry|tracing|otel|metrics|lambdahandler|lambdatest)\.([A-Z]\w*)`)
	for _, file := range append(markdown(t), "doc.go") {
		for _, m := range name.FindAllStringSubmatch(read(t, file), -1) {
			if !exported[m[0]] {
				t.Errorf("%s speaks of %s, which does not exist", file, m[0])
			}
		}
	}
}

// block is a fenced code block of a Markdown text.
type block struct {
	lang, text string
	line       int
}

// fences separates the fenced code blocks of a Markdown text from its prose.
func fences(text string) (prose string, blocks []block) {
	var out strings.Builder
	var b *block
	n := 0
	for line := range strings.Lines(text) {
		n++
		if lang, ok := strings.CutPrefix(strings.TrimSpace(line), "```"); ok {
			if b == nil {
				b = &block{lang: lang, line: n}
			} else {
				blocks = append(blocks, *b)
				b = nil
			}
			continue
		}
		if b == nil {
			out.WriteString(line)
		} else {
			b.text += line
		}
	}
	return out.String(), blocks
}

// source is a parsed Go file of the repository, nested modules included.
type source struct {
	name string // from the root, with slashes
	test bool
	fset *token.FileSet
	ast  *ast.File
}

var parseSources = sync.OnceValues(func() ([]source, error) {
	var files []source
	err := walk(func(name string) error {
		if path.Ext(name) != ".go" {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, source{name, strings.HasSuffix(name, "_test.go"), fset, file})
		return nil
	})
	return files, err
})

func sources(t *testing.T) []source {
	t.Helper()
	files, err := parseSources()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("found no Go file")
	}
	return files
}

// markdown returns the names of the Markdown files of the repository.
func markdown(t *testing.T) []string {
	t.Helper()
	var files []string
	err := walk(func(name string) error {
		if path.Ext(name) == ".md" {
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// walk calls visit with every file that is part of the repository: not hidden, not test data.
func walk(visit func(name string) error) error {
	return filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		return visit(filepath.ToSlash(name))
	})
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// listDeps returns, for every package of the root module, all that a program which imports it links on the platform.
func listDeps(t *testing.T, goos, goarch string) map[string][]string {
	t.Helper()
	out := goTool(t, []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"}, "list", "-json=ImportPath,Deps", "./...")
	deps := make(map[string][]string)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return deps
		} else if err != nil {
			t.Fatal(err)
		}
		deps[p.ImportPath] = p.Deps
	}
}

// goTool runs the go command in the root of the repository and returns what it prints.
//
// Tests that call it do not run in parallel with those of client_test.go. A child process holds every open socket from
// its fork to its exec; a connection that a test's server closes in between is not closed until then, for milliseconds,
// and a POST that goes out on it meanwhile is lost, which no client can prevent.
func goTool(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out
}
