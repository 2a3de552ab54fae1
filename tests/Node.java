import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One node of a cluster of OpenSearch, in a process of its own. */
public class Node {
    /** folder, name, HTTP port, transport port, and these two of all nodes, with commas. */
    public static void main(String[] args) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("node.name", args[1]);
            settings.put("discovery.type", "zen");
            settings.putList("node.roles", "cluster_manager", "data", "ingest");
            settings.put("http.port", args[2]);
            settings.put("transport.port", args[3]);
            settings.putList("cluster.initial_cluster_manager_nodes", args[4].split(","));
            settings.putList("discovery.seed_hosts", args[5].split(","));
            settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
        });
        runner.build(OpenSearchRunner.newConfigs()
            .basePath(args[0]).numOfNode(1).clusterName("splade-es-three"));
        Thread.currentThread().join();
    }
}
