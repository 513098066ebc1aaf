//go:build linux

package trial

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// result is one row of the table.
type result struct {
	family   string
	protocol protocol
	event    string
	clients  *clients
}

// results are the rows of the table, which trials fill in at the same time.
type results struct {
	mu   sync.Mutex // guards rows
	rows []result
}

func (r *results) add(row result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, row)
}

// table returns the rows as Markdown, in the order of the families.
func (r *results) table() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	order := func(name string) int {
		return slices.IndexFunc(families, func(f *family) bool { return f.name == name })
	}
	slices.SortStableFunc(r.rows, func(a, b result) int {
		return cmp.Or(order(a.family)-order(b.family), strings.Compare(a.family, b.family))
	})
	var b strings.Builder
	b.WriteString("| server | event | thaw: requests | failed | lost | other | twice | dials | http.Transport: requests | failed | lost | other | twice | dials |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s %s | %s |", row.family, row.protocol.title(), row.event)
		for _, l := range row.clients.loads {
			l.tally.columns(&b, l.wires.dials.Load())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// columns writes the columns of one client.
func (y *tally) columns(b *strings.Builder, dials int64) {
	other := y.verdicts[down] + y.verdicts[unfit] + y.verdicts[cut] + y.verdicts[refused]
	fmt.Fprintf(b, " %d | %d | %d | %d | %d | %d |", y.requests(), y.verdicts[savable], y.verdicts[lost], other, y.twice, dials)
}
