// Prints the configuration of Prometheus that its operator writes for a PodMonitor: by the operator's own
// code, without the operator. `pod-monitor FILE SERVER KEYS [JOBS]`: the PodMonitor's file, the API server's
// URL, the folder with the keys to it, and a file of further jobs, which the operator takes as
// additionalScrapeConfigs.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus-operator/prometheus-operator/pkg/assets"
	"github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pod-monitor:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 3 {
		return fmt.Errorf("usage: pod-monitor FILE SERVER KEYS [JOBS]")
	}
	text, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	monitor := &monitoring.PodMonitor{}
	if err := yaml.UnmarshalStrict(text, monitor); err != nil {
		return err
	}
	var jobs []byte
	if len(arguments) > 3 {
		if jobs, err = os.ReadFile(arguments[3]); err != nil {
			return err
		}
	}
	keys := arguments[2]
	server := &monitoring.Prometheus{}
	server.Name, server.Namespace = "k8s", "monitoring"
	server.Spec.ScrapeInterval = "1s"
	server.Spec.EvaluationInterval = "30s"
	server.Spec.APIServerConfig = &monitoring.APIServerConfig{
		Host: arguments[1],
		TLSConfig: &monitoring.TLSConfig{
			CAFile:   filepath.Join(keys, "trusted.crt"),
			CertFile: filepath.Join(keys, "admin.crt"),
			KeyFile:  filepath.Join(keys, "admin.key"),
		},
	}
	generator, err := prometheus.NewConfigGenerator(nil, server)
	if err != nil {
		return err
	}
	monitors := map[string]*monitoring.PodMonitor{monitor.Namespace + "/" + monitor.Name: monitor}
	configuration, err := generator.GenerateServerConfiguration(
		server, nil, monitors, nil, nil, assets.NewTestStoreBuilder(), jobs, nil, nil, nil)
	if err != nil {
		return err
	}
	// As the reloader beside each Prometheus fills it in.
	own := strings.NewReplacer("$(SHARD)", "0", "$(POD_NAME)", "prometheus-k8s-0")
	_, err = own.WriteString(os.Stdout, string(configuration))
	return err
}
