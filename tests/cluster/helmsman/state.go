package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"github.com/Masterminds/semver"
	"gopkg.in/yaml.v3"
)

// What the desired state files say, merged.
type state struct {
	Context   string                `yaml:"context"`
	Settings  settings              `yaml:"settings"`
	Namespace map[string]*namespace `yaml:"namespaces"`
	HelmRepos map[string]string     `yaml:"helmRepos"`
	Known     []string              `yaml:"preconfiguredHelmRepos"`
	Apps      map[string]*release   `yaml:"apps"`
	selected  int
	charts    map[string]*chartInfo
	names     []string // of apps, sorted
}

type settings struct {
	KubeContext      string `yaml:"kubeContext"`
	StorageBackend   string `yaml:"storageBackend"`
	ReverseDelete    bool   `yaml:"reverseDelete"`
	GlobalMaxHistory int    `yaml:"globalMaxHistory"`
	SkipPending      bool   `yaml:"skipPendingApps"`
}

type namespace struct {
	Protected   bool              `yaml:"protected"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
	unused      bool
}

type release struct {
	Name        string            `yaml:"name"`
	Namespace   string            `yaml:"namespace"`
	Enabled     bool              `yaml:"enabled"`
	Group       string            `yaml:"group"`
	Chart       string            `yaml:"chart"`
	Version     string            `yaml:"version"`
	ValuesFile  string            `yaml:"valuesFile"`
	ValuesFiles []string          `yaml:"valuesFiles"`
	Test        bool              `yaml:"test"`
	Protected   bool              `yaml:"protected"`
	Wait        bool              `yaml:"wait"`
	Priority    int               `yaml:"priority"`
	Set         map[string]string `yaml:"set"`
	SetString   map[string]string `yaml:"setString"`
	SetFile     map[string]string `yaml:"setFile"`
	HelmFlags   []string          `yaml:"helmFlags"`
	NoHooks     bool              `yaml:"noHooks"`
	Timeout     int               `yaml:"timeout"`
	MaxHistory  int               `yaml:"maxHistory"`
	ignored     bool
}

type chartInfo struct {
	Name    string `yaml:"name"`
	Version string `yaml:"version"`
}

func (r *release) key() string { return r.Name + "-" + r.Namespace }

var (
	variable = regexp.MustCompile(`\$\{([a-zA-Z_][a-zA-Z0-9_-]*)\}|\$([a-zA-Z_][a-zA-Z0-9_-]*)`)
	remark   = regexp.MustCompile(`#.*$`)
)

// Puts environment variables into the text of a file. One that is not set is an error, but not in a remark.
func substitute(text, file string) (string, error) {
	if option.noEnvSubst || !strings.Contains(text, "$") {
		return text, nil
	}
	if !option.skipValidation {
		info("validating environment variables in %s", file)
		for _, one := range strings.Split(text, "\n") {
			one = remark.ReplaceAllString(strings.ReplaceAll(one, "$$", ""), "")
			for _, found := range variable.FindAllStringSubmatch(one, -1) {
				if _, ok := os.LookupEnv(found[1] + found[2]); !ok {
					return "", fmt.Errorf("%s is used as an env variable but is currently unset."+
						" Either set it or escape it like so: $%s", found[0], found[0])
				}
			}
		}
	}
	text = os.Expand(strings.ReplaceAll(text, "$$", "${HELMSMAN_DOLLAR}"), func(name string) string {
		if name == "HELMSMAN_DOLLAR" {
			return "$"
		}
		return os.Getenv(name)
	})
	return text, nil
}

// Reads NAME=value lines, as from .env.
func readEnv(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("error loading env file: %w", err)
	}
	for _, one := range strings.Split(string(text), "\n") {
		one = strings.TrimSpace(one)
		name, value, found := strings.Cut(strings.TrimPrefix(one, "export "), "=")
		if found && !strings.HasPrefix(one, "#") {
			os.Setenv(strings.TrimSpace(name), strings.Trim(strings.TrimSpace(value), `"'`))
		}
	}
	return nil
}

// Lays one file over another: maps merge, lists grow, everything else is replaced.
func merge(under, over map[string]any) map[string]any {
	for key, value := range over {
		switch next := value.(type) {
		case map[string]any:
			if before, ok := under[key].(map[string]any); ok {
				under[key] = merge(before, next)
				continue
			}
		case []any:
			if before, ok := under[key].([]any); ok {
				under[key] = append(before, next...)
				continue
			}
		case nil:
			if _, ok := under[key]; ok {
				continue
			}
		}
		under[key] = value
	}
	return under
}

// Paths in a file start at its folder, not where the program runs; but those of setFile do.
func resolve(apps map[string]any, folder string, repos map[string]any, known []any) {
	absolute := func(path any) any {
		text, ok := path.(string)
		if !ok || text == "" || filepath.IsAbs(text) || strings.Contains(text, "://") {
			return path
		}
		full, _ := filepath.Abs(filepath.Join(folder, text))
		return full
	}
	for _, each := range apps {
		app, ok := each.(map[string]any)
		if !ok {
			continue
		}
		if file, ok := app["valuesFile"]; ok {
			app["valuesFile"] = absolute(file)
		}
		if files, ok := app["valuesFiles"].([]any); ok {
			for i := range files {
				files[i] = absolute(files[i])
			}
		}
		chart, _ := app["chart"].(string)
		first, _, _ := strings.Cut(chart, "/")
		_, repo := repos[first]
		for _, name := range known {
			repo = repo || name == first
		}
		if !repo && chart != "" {
			app["chart"] = absolute(chart)
		}
	}
}

func readFile(merged map[string]any, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if extension := strings.ToLower(filepath.Ext(file)); extension != ".yaml" && extension != ".yml" {
		return errors.New("state file does not have a valid extension")
	}
	text, err := substitute(string(raw), file)
	if err != nil {
		return err
	}
	one := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &one); err != nil {
		return err
	}
	apps, _ := one["apps"].(map[string]any)
	info("Parsed [[ %s ]] successfully and found [ %d ] apps", file, len(apps))
	repos, _ := merge(map[string]any{"r": merged["helmRepos"]}, map[string]any{"r": one["helmRepos"]})["r"].(map[string]any)
	known, _ := one["preconfiguredHelmRepos"].([]any)
	resolve(apps, filepath.Dir(file), repos, known)
	merge(merged, one)
	return nil
}

func readState() *state {
	files := option.envFiles
	if _, err := os.Stat(".env"); err == nil && !contains(files, ".env") {
		files = append([]string{".env"}, files...)
	}
	for _, file := range files {
		if err := readEnv(file); err != nil {
			fatal("%s", err)
		}
	}
	merged := map[string]any{}
	for _, file := range option.files {
		if err := readFile(merged, file); err != nil {
			fatal("error building the state from files: %s", err)
		}
	}
	text, _ := yaml.Marshal(merged)
	s := &state{charts: map[string]*chartInfo{}}
	if err := yaml.Unmarshal(text, s); err != nil {
		fatal("error building the state from files: %s", err)
	}
	s.defaults()
	s.choose()
	if option.skipValidation {
		info("Desired state validation is skipped.")
		return s
	}
	info("Validating desired state definition")
	if s.Apps == nil {
		info("No apps specified. Nothing to be executed.")
		os.Exit(0)
	}
	if err := s.validate(); err != nil {
		fatal("%s", err)
	}
	return s
}

func (s *state) defaults() {
	if s.Context == "" {
		s.Context = "default"
	}
	if s.Settings.StorageBackend == "" {
		s.Settings.StorageBackend = "secret"
	} else {
		os.Setenv("HELM_DRIVER", s.Settings.StorageBackend)
	}
	for name, n := range s.Namespace {
		if n == nil {
			s.Namespace[name] = &namespace{}
		}
	}
	for name, r := range s.Apps {
		if r.Name == "" {
			r.Name = name
		}
		if r.MaxHistory == 0 {
			r.MaxHistory = s.Settings.GlobalMaxHistory
		}
		s.names = append(s.names, name)
	}
	sort.Strings(s.names)
	s.Settings.SkipPending = s.Settings.SkipPending || option.skipPending
}

// Leaves the apps and namespaces alone that the flags do not ask for.
func (s *state) choose() {
	some := len(option.target)+len(option.group) > 0
	used := map[string]bool{}
	for _, name := range s.names {
		r := s.Apps[name]
		asked := contains(option.target, r.Name) || contains(option.group, r.Group)
		r.ignored = contains(option.notTarget, r.Name) || (r.Group != "" && contains(option.notGroup, r.Group)) || some && !asked
		if !r.ignored {
			s.selected++
			used[r.Namespace] = true
		}
	}
	for name, n := range s.Namespace {
		n.unused = some && !used[name]
	}
}

func (s *state) validate() error {
	if s.Settings.KubeContext == "" {
		if out := run("kubectl", "config", "current-context"); out.failed != nil || out.stdout == "" {
			info("Kubectl context is not set")
			return errors.New("settings validation failed -- you have not defined a kubeContext to use. Either define it in" +
				" the desired state file or pass a kubeconfig with --kubeconfig to use an existing context")
		}
	}
	if len(s.Namespace) == 0 {
		return errors.New("namespaces validation failed -- at least one namespace is required")
	}
	for name, address := range s.HelmRepos {
		if _, err := url.ParseRequestURI(address); err != nil {
			return fmt.Errorf("repos validation failed -- repo [%s ] must have a valid URL", name)
		}
	}
	seen := map[string]bool{}
	for _, name := range s.names {
		r := s.Apps[name]
		if err := s.validateApp(r, seen); err != nil {
			return fmt.Errorf("apps validation failed -- for app [%s ]. %w", name, err)
		}
		seen[r.key()] = true
	}
	return nil
}

func (s *state) validateApp(r *release, seen map[string]bool) error {
	_, err := os.Stat(r.Chart)
	switch {
	case seen[r.key()]:
		return errors.New("release name must be unique within a given namespace")
	case r.Namespace == "":
		return errors.New("release targeted namespace can't be empty")
	case r.Namespace != "kube-system" && s.Namespace[r.Namespace] == nil:
		return fmt.Errorf("release %s is using namespace [ %s ] which is not defined in the Namespaces section of your desired"+
			" state file. Release [ %s ] can't be installed in that Namespace until its defined.", r.Name, r.Namespace, r.Name)
	case r.Chart == "" || err != nil && !strings.Contains(r.Chart, "/"):
		return errors.New("chart can't be empty and must be of the format: repo/chart")
	case r.Version == "":
		return errors.New("version can't be empty")
	case r.ValuesFile != "" && len(r.ValuesFiles) > 0:
		return errors.New("valuesFile and valuesFiles should not be used together")
	case r.Priority > 0:
		return errors.New("priority can only be 0 or negative value, positive values are not allowed")
	}
	for _, file := range r.values() {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("invalid values file: could not stat %s: %w", file, err)
		}
	}
	return nil
}

func (r *release) values() []string {
	if r.ValuesFile != "" {
		return []string{r.ValuesFile}
	}
	return r.ValuesFiles
}

func (s *state) addRepos() error {
	var before []struct{ Name, URL string }
	if out := run("helm", "repo", "list", "--output", "json"); out.failed == nil {
		if err := json.Unmarshal([]byte(out.stdout), &before); err != nil {
			fatal("failed to unmarshal Helm CLI output: %s", err)
		}
	} else if !strings.Contains(out.stderr, "no repositories to show") {
		return fmt.Errorf("while listing helm repositories: %s", strings.TrimSpace(out.stderr))
	}
	for name, address := range s.HelmRepos {
		known := false
		parsed, _ := url.Parse(address)
		args := []string{"repo", "add", "--force-update", name}
		if user := parsed.User; user != nil {
			password, ok := user.Password()
			if !ok {
				fatal("helm repo %s has incomplete basic auth info. Missing the password!", name)
			}
			parsed.User = nil
			args = append(args, parsed.String(), "--username", user.Username(), "--password", password)
		} else {
			args = append(args, address)
		}
		for _, each := range before {
			known = known || each.Name == name && each.URL == parsed.String()
		}
		if known {
			continue
		}
		if _, err := retry("Adding helm repository [ "+name+" ]", "helm", args...); err != nil {
			return fmt.Errorf("while adding helm repository [%s]]: %w", name, err)
		}
	}
	if len(s.HelmRepos) > 0 && !option.noUpdate {
		if out := run("helm", "repo", "update"); out.failed != nil {
			return fmt.Errorf("err updating helm repos: %s", strings.TrimSpace(out.stderr))
		}
	}
	return nil
}

func (s *state) addNamespaces() {
	for name, n := range s.Namespace {
		if n.unused {
			continue
		}
		if run("kubectl", "get", "namespace", name).failed != nil {
			args := []string{"create", "namespace", name}
			if option.dryRun {
				args = append(args, "--dry-run=server")
			}
			if out := run("kubectl", args...); out.failed != nil {
				fatal("Failed creating namespace [ %s ] with error: %s", name, strings.TrimSpace(out.stderr))
			}
			info("Namespace [ %s ] created", name)
		}
		for kind, words := range map[string]map[string]string{"label": n.Labels, "annotate": n.Annotations} {
			args := []string{kind, "--overwrite", "namespace/" + name}
			for key, value := range words {
				args = append(args, key+"="+value)
			}
			if len(words) > 0 && !option.dryRun {
				run("kubectl", args...)
			}
		}
	}
}

func chartOf(chart, wanted string) (*chartInfo, error) {
	if filepath.IsAbs(chart) { // a local one
		if _, err := os.Stat(chart); err != nil {
			return nil, fmt.Errorf("could not stat %s", chart)
		}
	}
	args := []string{"show", "chart", chart}
	if wanted != "latest" && wanted != "" {
		args = append(args, "--version", wanted)
	}
	out := run("helm", args...)
	if out.failed != nil {
		return nil, fmt.Errorf("chart [ %s ] version [ %s ] can't be found. If this is not a local chart, add the repo [ %s ] in your"+
			" helmRepos stanza. Error output: %s", chart, wanted, filepath.Base(filepath.Dir(chart)), strings.TrimSpace(out.stderr))
	}
	found := &chartInfo{}
	if err := yaml.Unmarshal([]byte(out.stdout), found); err != nil {
		return nil, err
	}
	constraint, err := semver.NewConstraint(wanted)
	if err != nil {
		return nil, err
	}
	is, err := semver.NewVersion(found.Version)
	if err != nil {
		return nil, err
	}
	if !constraint.Check(is) {
		return nil, fmt.Errorf("chart [ %s ] with version [ %s ] was found with a mismatched version: %s", chart, wanted, found.Version)
	}
	return found, nil
}

func (s *state) chartsInfo() error {
	failed := false
	for _, name := range s.names {
		r := s.Apps[name]
		key := r.Chart + "\x00" + r.Version
		if _, done := s.charts[key]; done || r.ignored {
			continue
		}
		found, err := chartOf(r.Chart, r.Version)
		if err != nil {
			problem("%s", err)
			failed = true
		}
		s.charts[key] = found
	}
	if failed {
		return errors.New("chart validation failed")
	}
	return nil
}
