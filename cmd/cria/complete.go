package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"cria/internal/bench"
	"cria/internal/export"
	"cria/internal/foreign"
	"cria/internal/hub"
	"cria/internal/recipe"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completer lists what a word could become. The words need not begin with what is typed; a tab parts a word from its
// description.
type completer func(typed string) []string

// addCompletions gives every command below parent that has none of its own what a shell completes: arguments as its line of usage names
// them, values of flags, keys of recipes and their values. It reads directories and caches, and makes no connection.
func addCompletions(parent *cobra.Command) {
	for _, c := range parent.Commands() {
		addCompletions(c)
		if c.ValidArgsFunction == nil {
			c.ValidArgsFunction = completeArgs(c)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			values := flagValues[f.Name]
			if values == nil || f.NoOptDefVal != "" { // a flag without a value
				return
			}
			// An error says that the command has registered its own.
			_ = c.RegisterFlagCompletionFunc(f.Name, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
				return offer(values(typed), typed)
			})
		})
	}
}

// flagValues are the values of flags, whatever command has them.
var flagValues = map[string]completer{
	"dtype":         words("auto", "float32", "bfloat16"),
	"compute-dtype": words("auto", "float32", "bfloat16"),
	"format":        words(exportFormats...),
	"type":          words(texts(export.Types)...),
	"source":        words("hf", "ms"),
	"from":          words(append([]string{"auto"}, texts(foreign.Tools)...)...),
	"shape":         words(strings.Split(bench.ShapeNames(), ", ")...),
	"model":         models,
	"adapter":       files(),
	"recipe":        files(".yaml", ".yml"),
	"dataset":       datasets,
	"output-dir":    files(),
	"dir":           files(),
	"to":            files(),
	"fix":           files(),
}

// placeholders are the words of a usage line that stand for arguments.
var placeholders = map[string]completer{
	"RECIPE.yaml": files(".yaml", ".yml"),
	"MODEL":       models,
	"DIR":         files(),
	"FILE.gguf":   files(".gguf"),
	"FILE.jinja":  files(".jinja"),
	"PATH":        files(""),
	"FILE":        files(""),
}

// completeArgs completes the arguments of a command as its usage line names them.
func completeArgs(c *cobra.Command) cobra.CompletionFunc {
	positions, keys := usage(c.Use)
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		given, named := []string{}, 0 // keys that are set, and other arguments
		awaits := ""                  // the key whose value comes next
		for _, a := range args {
			switch key, _, set := strings.Cut(strings.TrimPrefix(a, "--"), "="); {
			case awaits != "":
				awaits = ""
			case set:
				given = append(given, key)
			case cmd.DisableFlagParsing && strings.HasPrefix(a, "--"):
				key = strings.ReplaceAll(key, "-", "_")
				given = append(given, key)
				if slices.Contains(recipeKeys(), key) {
					awaits = key
				}
			default:
				named++
			}
		}
		key, value, assigns := strings.Cut(typed, "=")
		switch {
		case awaits != "":
			return offer(keyValues(awaits, typed), typed)
		case keys && assigns && strings.HasPrefix(key, "--"): // the shells' scripts look at what is behind the = alone
			return offer(keyValues(strings.ReplaceAll(key[2:], "-", "_"), value), value)
		case keys && assigns:
			return offer(prefixed(key+"=", keyValues(key, value)), typed)
		}
		var list []string
		switch {
		case strings.HasPrefix(typed, "-"):
		case c.Name() == "pull" && named == 0:
			kind := hub.Model
			if dataset, err := cmd.Flags().GetBool("dataset"); err == nil && dataset {
				kind = hub.Dataset
			}
			list = repositories(kind)
		case named < len(positions):
			for _, p := range positions[named] {
				list = append(list, p(typed)...)
			}
		}
		switch dashed := strings.HasPrefix(typed, "-"); {
		case dashed && cmd.DisableFlagParsing: // else cobra lists the flags
			list = append(ownFlags(c), prefixed("--", missingKeys(given))...)
		case keys && !dashed:
			list = append(list, missingKeys(given)...)
		}
		if len(list) == 0 && !keys && named >= len(positions) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(list, typed)
	}
}

// usage reads a command's line of usage: for every argument what it can be, and whether keys of a recipe can follow.
func usage(use string) (positions [][]completer, keys bool) {
	fields := strings.Fields(strings.ReplaceAll(use, " | ", "|"))
	for i, field := range fields {
		if i > 0 && strings.HasPrefix(strings.TrimLeft(fields[i-1], "[("), "--") {
			continue // the value of a flag
		}
		var position []completer
		for name := range strings.SplitSeq(strings.Trim(field, "[]()."), "|") {
			keys = keys || name == "key=value"
			if p := placeholders[name]; p != nil {
				position = append(position, p)
			}
		}
		if position != nil {
			positions = append(positions, position)
		}
	}
	return positions, keys
}

// ownFlag is a flag in the help of a command that reads its flags itself.
var ownFlag = regexp.MustCompile(`(?m)(?:^  |\[)(--[a-z-]+)`)

func ownFlags(c *cobra.Command) (names []string) {
	for _, m := range ownFlag.FindAllStringSubmatch(c.Use+"\n"+c.Long, -1) {
		names = append(names, m[1])
	}
	return names
}

// offer keeps the words that begin as what is typed does, and asks for no space behind words that go on. Where there is none
// the shell completes names of files.
func offer(list []string, typed string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveKeepOrder | cobra.ShellCompDirectiveNoSpace
	var kept []string
	for _, s := range list {
		word, _, _ := strings.Cut(s, "\t")
		if !strings.HasPrefix(word, typed) || slices.Contains(kept, s) {
			continue
		}
		kept = append(kept, s)
		if !strings.HasSuffix(word, "=") && !strings.HasSuffix(word, string(filepath.Separator)) {
			directive &^= cobra.ShellCompDirectiveNoSpace
		}
	}
	if len(kept) == 0 {
		directive = cobra.ShellCompDirectiveDefault
	}
	return kept, directive
}

func prefixed(prefix string, list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = prefix + s
	}
	return out
}

// recipeKeys are the names of all keys that have an effect.
func recipeKeys() (names []string) {
	for _, k := range recipe.Keys() {
		if k.Default != "" {
			names = append(names, k.Name)
		}
	}
	return names
}

// missingKeys are the keys that are not given, as key=, with what they mean.
func missingKeys(given []string) (list []string) {
	for _, k := range recipe.Keys() {
		if k.Default != "" && !slices.Contains(given, k.Name) {
			list = append(list, k.Name+"=\t"+strings.ReplaceAll(k.Meaning, "`", ""))
		}
	}
	return list
}

// keyValues are values of a key: the words that it takes, what is on the disk, or its default.
func keyValues(name, typed string) []string {
	switch name {
	case "model":
		return models(typed)
	case "dataset", "eval_dataset":
		return datasets(typed)
	case "output_dir", "adapter":
		return files()(typed)
	case "resume_from_checkpoint":
		return append([]string{"true", "false"}, files()(typed)...)
	case "lora.target_modules":
		return []string{"all-linear", "[q_proj,v_proj]", "[q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj]"}
	}
	for _, k := range recipe.Keys() {
		switch choices := k.Choices(); {
		case k.Name != name:
		case choices != nil:
			return choices
		case k.Default != "" && k.Default != "none" && k.Default != "required":
			return []string{k.Default + "\tthe default"}
		}
	}
	return nil
}

// texts are the values of a kind of text.
func texts[T ~string](list []T) (out []string) {
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}

func words(list ...string) completer { return func(string) []string { return list } }

// models are directories and the models in caches.
func models(typed string) []string { return append(files()(typed), modelsHere()...) }

// datasets are files of rows, directories, and the datasets in caches.
func datasets(typed string) []string {
	return append(files(".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz", ".zst")(typed), repositories(hub.Dataset)...)
}

// repositories are the names of what is in the caches of hubs, as commands take them.
func repositories(kind hub.Kind) (names []string) {
	env, err := hub.FromEnv(os.Getenv)
	if err != nil {
		return nil
	}
	for _, ref := range hub.New(env).Repositories(kind) {
		switch {
		case kind == hub.Model && ref.Source == env.DefaultSource:
			names = append(names, ref.Name)
		default: // a dataset without a prefix would be a file
			names = append(names, ref.String())
		}
	}
	return names
}

// files lists the files with one of the endings, then the directories, which end in a separator and lead on. Without endings
// there are only directories.
func files(endings ...string) completer {
	return func(typed string) (list []string) {
		dir, base := filepath.Split(typed)
		entries, err := os.ReadDir(homePath(filepath.Clean(dir)))
		if err != nil {
			return nil
		}
		var dirs []string
		for _, e := range entries {
			name := e.Name()
			if strings.HasPrefix(name, ".") && !strings.HasPrefix(base, ".") {
				continue
			}
			info, err := os.Stat(homePath(filepath.Join(dir, name))) // what a link leads to
			switch {
			case err != nil:
			case info.IsDir():
				dirs = append(dirs, dir+name+string(filepath.Separator))
			case slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(strings.ToLower(name), e) }):
				list = append(list, dir+name)
			}
		}
		return append(list, dirs...)
	}
}
