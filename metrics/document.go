package metrics

// document is what becomes one line: one value for each metric, under one combination of dimensions.
type document struct {
	dimensions []Dimension
	values     values
}

// metadata is the member of a document that says what the others are.
const metadata = "_aws"

type definition struct{ Name, Unit string }

type directive struct {
	Namespace  string
	Dimensions [1][]string
	Metrics    []definition
}

// root returns the root node of the document, ready to be encoded.
func (e *Emitter) root(d document, traced bool) map[string]any {
	names := make([]string, 0, len(d.dimensions))
	root := make(map[string]any, 1+len(d.dimensions)+len(measures))
	for _, dim := range d.dimensions {
		names = append(names, dim.Name)
		root[dim.Name] = dim.Value
	}
	metrics := make([]definition, 0, len(measures))
	for i, m := range measures {
		if i == ofRetries && !traced {
			continue
		}
		metrics = append(metrics, definition{m.name, m.unit})
		root[m.name] = m.inUnit(d.values[i])
	}
	root[metadata] = map[string]any{
		"Timestamp":         e.now().UnixMilli(),
		"CloudWatchMetrics": [1]directive{{e.cfg.namespace, [1][]string{names}, metrics}},
	}
	return root
}
