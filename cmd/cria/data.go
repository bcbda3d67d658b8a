package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"cria/internal/disk"
	"cria/internal/proof"
	"cria/internal/recipe"
	"cria/internal/train"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newData(ui *ui) *cobra.Command {
	return &cobra.Command{
		Use:   "data [RECIPE.yaml] [key=value | --key value ...] [flags below]",
		Short: "Show what a recipe would train, token by token, and whether it is fit to be trained",
		Long: "Read a recipe's model directory (without its weights) and data as cria train does, and show what would be trained: how the\n" +
			"files were understood, how long rows are, what the checks say, with file and line, and rows as the tokens that the model\n" +
			"sees, with those coloured that are in the loss. Where training would be refused the exit code is that of the refusal.\n\n" +
			"⏎ is a line break, · a space that could be overlooked, ⇥ a tab, <E4> a byte of a broken character, \\u200b a character that\n" +
			"cannot be seen. Without colours (NO_COLOR, or no terminal) the tokens in the loss stand in ⟦ ⟧.\n\n" +
			"  --row N            show row N, or the one at FILE:LINE; may be repeated\n" +
			"  --rows N           show the first N rows (3)\n" +
			"  --ids              show each token with its id\n" +
			"  --html FILE        write a page for the browser too; nothing in it is fetched from elsewhere\n" +
			"  --html-rows N      put N rows, spread over the data, on the page, beside those that the checks name (50)\n" +
			"  --color            colours also without a terminal, for less -R\n" +
			"  --json             print one JSON object instead of the text",
		Example: "  cria data recipe.yaml\n  cria data recipe.yaml --row 17 --row rows.json:120 --ids\n  cria data recipe.yaml dataset=other.jsonl --html proof.html\n" +
			"  cria data recipe.yaml --rows 0 && cria train recipe.yaml\n  cria data recipe.yaml --json | jq '.checks[] | select(.state == \"refused\")'",
		DisableFlagParsing: true, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, args, err := dataArgs(args)
			if err != nil {
				return err
			}
			r, path, err := loadRecipe(cmd, args)
			if err != nil || r == nil {
				return err
			}
			for _, n := range r.Notes {
				ui.note("note: %s", n)
			}
			var notes []string
			ui.show("reading the model's tokenizer and the data ...")
			d, err := train.Rows(cmd.Context(), r, train.Options{Find: ui.find(r), Info: func(s string) { notes = append(notes, s) }})
			ui.show("")
			if err != nil {
				return err
			}
			defer d.Close()
			said := d.Report.Describe() // is in the proof
			for _, n := range notes {
				if !slices.Contains(said, n) {
					ui.note("note: %s", oneScreen(n))
				}
			}
			return o.show(ui, d, r, path)
		},
	}
}

// dataOptions are the flags of cria data.
type dataOptions struct {
	places           []string // of --row
	rows, htmlRows   int
	html             string
	ids, color, json bool
}

// replaceable refuses to write a page over a file that is not an earlier one.
func replaceable(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	const begin = "<!DOCTYPE html>"
	b := make([]byte, len(begin))
	if n, err := io.ReadFull(f, b); string(b) == begin || n == 0 && err == io.EOF {
		return nil
	}
	return usagef("--html %s: that file exists and is not a page; choose another name", path)
}

// dataArgs takes the command's own flags out of a command line; the rest is the recipe's.
func dataArgs(args []string) (o dataOptions, rest []string, err error) {
	o.rows, o.htmlRows = 3, 50
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(args[i], "=")
		switch name {
		case "--ids", "--color", "--json":
			if given {
				return o, nil, usagef("%s takes no value", name)
			}
			o.ids, o.color, o.json = o.ids || name == "--ids", o.color || name == "--color", o.json || name == "--json"
			continue
		case "--row", "--rows", "--html", "--html-rows":
		default:
			rest = append(rest, args[i])
			continue
		}
		if !given {
			if i++; i == len(args) {
				return o, nil, usagef("%s needs a value", name)
			}
			value = args[i]
		}
		switch name {
		case "--row":
			o.places = append(o.places, value)
		case "--html":
			if o.html = value; value == "" {
				return o, nil, usagef("--html needs the name of a file")
			}
			if err := replaceable(value); err != nil {
				return o, nil, err
			}
		default:
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 {
				return o, nil, usagef("%s needs a number of rows, not %q", name, value)
			}
			if name == "--rows" {
				o.rows = n
			} else {
				o.htmlRows = n
			}
		}
	}
	return o, rest, nil
}

// show prints the proof, and returns what training would be refused with.
func (o *dataOptions) show(ui *ui, d *train.Data, r *recipe.Recipe, path string) error {
	refused := d.Check()
	p := &proof.Proof{Recipe: path, Model: r.Model, Report: &d.Report, Eval: d.EvalReport, Rows: d.Train, Tokenizer: d.Tokenizer, MaxLength: r.MaxLength,
		Checks: d.Checks(), Refused: refused != nil}
	rows, err := o.chosen(p)
	if err != nil {
		return err
	}
	if o.html != "" {
		on := append(p.Named(), proof.Spread(p.Rows.Len(), o.htmlRows)...)
		if len(o.places) > 0 {
			on = append(on, rows...)
		}
		slices.Sort(on)
		err := disk.PublishStream(disk.OS{}, o.html, func(w io.Writer) error { return p.WriteHTML(w, slices.Compact(on)) })
		if err != nil {
			return err
		}
	}
	if o.json {
		err = ui.json(p.Document(rows))
	} else {
		colour, width := terminal(ui.out)
		err = p.WriteText(ui.out, rows, proof.Style{Colour: colour || o.color, IDs: o.ids, Width: width, All: len(o.places) > 0})
	}
	if err != nil {
		return err
	}
	if o.html != "" {
		ui.note("the page is in %s", o.html)
	}
	return refused
}

// chosen are the rows, from 0, that are shown.
func (o *dataOptions) chosen(p *proof.Proof) (rows []int, err error) {
	if len(o.places) == 0 {
		for i := range min(o.rows, p.Rows.Len()) {
			rows = append(rows, i)
		}
		return rows, nil
	}
	for _, place := range o.places {
		i, bad := strconv.Atoi(place)
		switch {
		case bad != nil:
			if i, err = p.Find(place); err != nil {
				return nil, usagef("--row: %v", err)
			}
		case i < 1 || i > p.Rows.Len():
			return nil, usagef("--row %d: rows go from 1 to %d", i, p.Rows.Len())
		default:
			i--
		}
		rows = append(rows, i)
	}
	return rows, nil
}

// terminal says whether what is written to w is seen in colours, and in how many columns; 0 where nobody knows.
func terminal(w io.Writer) (colour bool, columns int) {
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false, 0
	}
	columns, _, _ = term.GetSize(int(f.Fd()))
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", columns
}
