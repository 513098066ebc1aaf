package pool

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The machine does nothing itself: it opens no connection, waits for nobody, and is told the time. So no file of it imports what
// does, or asks package time what time it is.
func TestTheMachineHasNoSocketNoLockAndNoClock(t *testing.T) {
	does := []string{"net", "context", "sync", "os", "io", "syscall", "runtime", "crypto", "log", "math/rand"} // and what is below them
	asks := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		read++
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		times := "" // what the file calls package time
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range does {
				if path == d || strings.HasPrefix(path, d+"/") {
					t.Errorf("%s: imports %s", fset.Position(i.Pos()), path)
				}
			}
			if strings.Contains(path, ".") {
				t.Errorf("%s: imports %s; the machine stands on nothing but the standard library", fset.Position(i.Pos()), path)
			}
			if path != "time" {
				continue
			}
			times = "time"
			if i.Name != nil {
				times = i.Name.Name
			}
			if times == "." || times == "_" {
				t.Errorf("%s: imports time as %s", fset.Position(i.Pos()), times)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: starts a goroutine", fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && times != "" && x.Name == times && slices.Contains(asks, n.Sel.Name) {
					t.Errorf("%s: calls %s.%s", fset.Position(n.Pos()), times, n.Sel.Name)
				}
			}
			return true
		})
	}
	if read < 10 {
		t.Errorf("%d files were read: where is the machine?", read)
	}
}
