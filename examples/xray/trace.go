package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// subsegment is what is printed of a document.
type subsegment struct {
	Name      string         `json:"name"`
	ParentID  string         `json:"parent_id"`
	StartTime float64        `json:"start_time"` // in seconds since 1970
	EndTime   float64        `json:"end_time"`
	Fault     bool           `json:"fault"`
	Notes     map[string]any `json:"annotations"`
	HTTP      *struct {
		Request struct {
			Method string `json:"method"`
			URL    string `json:"url"`
		} `json:"request"`
		Response struct {
			Status int `json:"status"`
		} `json:"response"`
	} `json:"http"`
	Subsegments []subsegment `json:"subsegments"`
}

// printTrace prints the documents of one invocation as a tree. Its root is the segment that Lambda makes of the invocation,
// and names in the trace header; only Lambda sends that one.
func printTrace(w io.Writer, function, header string, docs [][]byte) error {
	fmt.Fprintf(w, "%s (the segment of %s)\n", function, header)
	var subs []subsegment
	for _, doc := range docs {
		var s subsegment
		if err := json.Unmarshal(doc, &s); err != nil {
			return err
		}
		if !strings.Contains(header, "Parent="+s.ParentID) {
			return fmt.Errorf("%s is not below the segment of the invocation: %s", s.Name, doc)
		}
		subs = append(subs, s)
	}
	printBelow(w, "", subs)
	_, err := fmt.Fprintln(w)
	return err
}

// printBelow prints subsegments and what is below them. indent is what begins each line.
func printBelow(w io.Writer, indent string, subs []subsegment) {
	for i, s := range subs {
		branch, below := "├── ", "│   "
		if i == len(subs)-1 {
			branch, below = "└── ", "    "
		}
		fmt.Fprintf(w, "%s%s%s  %.2f ms", indent, branch, s.Name, (s.EndTime-s.StartTime)*1000)
		if s.HTTP != nil {
			fmt.Fprintf(w, "  %s %s %d", s.HTTP.Request.Method, s.HTTP.Request.URL, s.HTTP.Response.Status)
		}
		if s.Fault {
			fmt.Fprint(w, "  fault")
		}
		fmt.Fprintln(w)
		bar := "    "
		if len(s.Subsegments) > 0 {
			bar = "│   "
		}
		for _, key := range slices.Sorted(maps.Keys(s.Notes)) {
			fmt.Fprintf(w, "%s%s%sannotation.%s = %v\n", indent, below, bar, key, s.Notes[key])
		}
		printBelow(w, indent+below, s.Subsegments)
	}
}
