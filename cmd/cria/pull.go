package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"cria/internal/hub"

	"github.com/spf13/cobra"
)

type pullFlags struct {
	dataset, all, force, dry, json bool
	revision, to, source           string
	include                        []string
}

func newPull(ui *ui) *cobra.Command {
	var f pullFlags
	c := &cobra.Command{
		Use:   "pull NAME",
		Short: "Fetch a model or a dataset from Hugging Face or ModelScope",
		Long: "Fetch a model, an adapter or (--dataset) a dataset, and print its directory. NAME is organisation/name, with hf: or ms:\n" +
			"before it for one of the hubs, and @branch, @tag or @commit behind it for a revision.\n\n" +
			"Files go to the cache that the hub's Python client uses, in its layout, so that each finds what the other fetched; with\n" +
			"--to they go to a directory of their own. Every file is compared with its SHA-256 (small ones on Hugging Face: the SHA-1\n" +
			"of the git blob) before it gets its name. Interrupted or killed, the same command goes on where it was.\n\n" +
			"Only files that cria uses are fetched: *.safetensors, *.json, *.jinja and the tokenizer's at the top of a model, data\n" +
			"files and README.md of a dataset. Pickles (*.bin, *.pt) are not, and a model that has only these is refused.\n\n" +
			"Without prefix the hub is --source, else CRIA_SOURCE (hf or ms), else ms with USE_MODELSCOPE_HUB=1 or where only\n" +
			"variables of ModelScope are set, else hf. Also read are HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE,\n" +
			"MODELSCOPE_ENDPOINT, MODELSCOPE_DOMAIN, MODELSCOPE_API_TOKEN, MODELSCOPE_CACHE, HTTPS_PROXY, HTTP_PROXY and NO_PROXY.\n" +
			"A mirror set by an endpoint is never left for the public hub, and a token is sent to the endpoint's host only.",
		Example: "  cria pull HuggingFaceTB/SmolLM2-135M-Instruct\n  cria pull ms:LLM-Research/Llama-3.2-1B-Instruct --to ./llama\n" +
			"  cria pull --dataset org/name@v1.0\n  HF_ENDPOINT=https://hf-mirror.com cria pull hf:org/name\n" +
			"  cria pull org/name-GGUF --include '*Q8_0.gguf' --to .",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one repository: cria pull organisation/name")
			}
			return runPull(cmd.Context(), ui, args[0], f)
		},
	}
	c.Flags().BoolVar(&f.dataset, "dataset", false, "NAME is a dataset")
	c.Flags().StringVar(&f.revision, "revision", "", "branch, tag or commit, as @REVISION behind the name")
	c.Flags().StringVar(&f.source, "source", "", "hub of a NAME without prefix: hf or ms")
	c.Flags().StringVar(&f.to, "to", "", "put the files into this directory, not into the cache")
	c.Flags().BoolVar(&f.force, "force", false, "with --to: replace files that differ")
	c.Flags().StringArrayVar(&f.include, "include", nil, "fetch files that match this pattern (*, ?) instead of the usual ones; may be repeated")
	c.Flags().BoolVar(&f.all, "all-files", false, "fetch every file")
	c.Flags().BoolVar(&f.dry, "dry-run", false, "say what would be fetched")
	c.Flags().BoolVar(&f.json, "json", false, "print directory, commit and files as JSON")
	return c
}

// pulled is what --json prints.
type pulled struct {
	Dir     string     `json:"dir"`
	Name    string     `json:"name"`
	Commit  string     `json:"commit,omitempty"`
	Files   []hub.File `json:"files"`
	Skipped []hub.File `json:"skipped,omitempty"`
	Missing int64      `json:"missing_bytes"` // before the pull
}

func runPull(ctx context.Context, ui *ui, name string, f pullFlags) error {
	env, err := hub.FromEnv(os.Getenv)
	if err != nil {
		return usageError{err}
	}
	source, kind := hub.Source(f.source), hub.Model
	switch source {
	case "":
		source = env.DefaultSource
	case hub.HuggingFace, hub.ModelScope:
	default:
		return usagef("--source is %q; it can be hf (Hugging Face) or ms (ModelScope)", f.source)
	}
	if f.dataset {
		kind = hub.Dataset
	}
	if f.revision != "" {
		if strings.Contains(name, "@") {
			return usagef("the revision is named twice: %s and --revision %s", name, f.revision)
		}
		name += "@" + f.revision
	}
	ref, err := hub.ParseRef(name, kind, source)
	if err != nil {
		return usageError{err}
	}
	if f.all && len(f.include) > 0 {
		return usagef("--all-files and --include exclude each other")
	}
	if f.force && f.to == "" {
		return usagef("--force is for --to")
	}
	bars := newPullBars(ui)
	opt := hub.Options{To: f.to, Force: f.force, Files: filesWanted(f), Progress: bars.event}
	plan, err := hub.New(env).Plan(ctx, ref, opt)
	if err != nil {
		bars.close()
		return stoppedPull(ui, err)
	}
	result := pulled{Dir: plan.Dir, Name: ref.String(), Commit: plan.Commit, Files: plan.Files, Skipped: plan.Skipped, Missing: plan.Missing}
	if result.Files == nil {
		result.Files = []hub.File{}
	}
	if f.dry {
		bars.close()
		return dryRun(ui, result, f.json)
	}
	if plan.Missing > 0 {
		bars.note("%s%s: %s in %s to fetch%s", ref, atCommit(plan.Commit), byteSize(plan.Missing), plural(len(plan.Files), "file"), skippedFiles(plan.Skipped))
	}
	bars.start(plan.Missing)
	dir, err := plan.Fetch(ctx)
	bars.close()
	if err != nil {
		return stoppedPull(ui, err)
	}
	if f.json {
		return ui.json(result)
	}
	fmt.Fprintln(ui.out, dir)
	return nil
}

func stoppedPull(ui *ui, err error) error {
	if errors.Is(err, context.Canceled) {
		ui.note("stopped; the same command goes on where it was")
	}
	return err
}

func atCommit(commit string) string {
	if commit == "" {
		return ""
	}
	return " at commit " + commit[:12]
}

// skippedFiles says what is not fetched, the largest first.
func skippedFiles(files []hub.File) string {
	if len(files) == 0 {
		return ""
	}
	var bytes int64
	big := files[0]
	for _, f := range files {
		bytes += f.Size
		if f.Size > big.Size {
			big = f
		}
	}
	return fmt.Sprintf("; left out: %s, %s (%s ...), which --all-files or --include would fetch", plural(len(files), "file"), byteSize(bytes), printable(big.Path))
}

func dryRun(ui *ui, r pulled, asJSON bool) error {
	if asJSON {
		return ui.json(r)
	}
	for _, f := range r.Files {
		fmt.Fprintf(ui.out, "%10s  %s\n", byteSize(f.Size), printable(f.Path))
	}
	ui.note("%s%s would go to %s; %s are to be fetched%s", r.Name, atCommit(r.Commit), r.Dir, byteSize(r.Missing), skippedFiles(r.Skipped))
	return nil
}

// filesWanted is the choice of files, nil for the usual ones. As in the Python clients * matches slashes too, and a pattern
// without a slash is compared with the last part of the path as well.
func filesWanted(f pullFlags) func(string) bool {
	if f.all {
		return func(string) bool { return true }
	}
	if len(f.include) == 0 {
		return nil
	}
	var patterns []*regexp.Regexp
	for _, p := range f.include {
		p = strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(p))
		patterns = append(patterns, regexp.MustCompile(`^(?s:`+p+`)$`))
	}
	return func(path string) bool {
		last := path[strings.LastIndexByte(path, '/')+1:]
		for _, p := range patterns {
			if p.MatchString(path) || p.MatchString(last) {
				return true
			}
		}
		return false
	}
}
