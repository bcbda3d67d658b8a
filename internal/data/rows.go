package data

import (
	"fmt"

	"cria/internal/pack"
)

// Rows are tokenised rows, wherever they lie: in memory (InMemory), in a mapped file (Set), or as a part of others (Part).
// They do not change, and may be read by several goroutines.
type Rows interface {
	Len() int
	Row(i int) pack.Row // a copy, the caller's
	Tokens(i int) int   // len(Row(i).IDs), without reading them
	Labelled(i int) int // Row(i).Labelled(), without reading it
	Where(i int) string // where the row comes from, for messages: file:line (row n)
}

// InMemory are rows that come from nowhere else.
type InMemory []pack.Row

func (m InMemory) Len() int           { return len(m) }
func (m InMemory) Row(i int) pack.Row { return m[i] }
func (m InMemory) Tokens(i int) int   { return len(m[i].IDs) }
func (m InMemory) Labelled(i int) int { return m[i].Labelled() }
func (m InMemory) Where(i int) string { return fmt.Sprintf("row %d", i+1) }

// Part are some of the rows of another Rows, in the order of Index.
type Part struct {
	Of    Rows
	Index []int32
}

func (p Part) Len() int           { return len(p.Index) }
func (p Part) Row(i int) pack.Row { return p.Of.Row(int(p.Index[i])) }
func (p Part) Tokens(i int) int   { return p.Of.Tokens(int(p.Index[i])) }
func (p Part) Labelled(i int) int { return p.Of.Labelled(int(p.Index[i])) }
func (p Part) Where(i int) string { return p.Of.Where(int(p.Index[i])) }
