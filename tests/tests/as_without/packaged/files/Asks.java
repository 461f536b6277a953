import com.sun.net.httpserver.HttpServer;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;

/**
 * A server and clients of Java's own library: "serve PORT", or "SERVER PORT". HttpClient asks for an
 * upgrade to h2c with its first request.
 */
public class Asks {
    static void serve(int port) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 100);
        server.createContext("/", exchange -> {
            int length = exchange.getRequestBody().readAllBytes().length;
            String from = exchange.getRemoteAddress().getAddress().getHostAddress();
            byte[] said = (exchange.getRequestMethod() + " " + exchange.getRequestURI() + " from " + from
                + " " + length).getBytes();
            exchange.sendResponseHeaders(200, said.length);
            exchange.getResponseBody().write(said);
            exchange.close();
        });
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("serve")) {
            serve(Integer.parseInt(arguments[1]));
            return;
        }
        String url = "http://" + arguments[0] + ":" + arguments[1];
        for (var version : HttpClient.Version.values()) {
            HttpClient client = HttpClient.newBuilder().version(version).build();
            for (String body : new String[] {"", "a".repeat(100), "b".repeat(300_000)}) {
                var request = HttpRequest.newBuilder(URI.create(url + "/java"));
                var asked = body.isEmpty() ? request.GET() : request.POST(BodyPublishers.ofString(body));
                var response = client.send(asked.build(), BodyHandlers.ofString());
                System.out.println(version + " " + response.statusCode() + " " + response.body());
            }
            var all = new ArrayList<CompletableFuture<Integer>>();
            for (int number = 0; number < 30; number++) {
                var request = HttpRequest.newBuilder(URI.create(url + "/java/" + number)).build();
                all.add(client.sendAsync(request, BodyHandlers.discarding()).thenApply(r -> r.statusCode()));
            }
            for (var response : all) {
                System.out.print(response.get() + " ");
            }
            System.out.println();
        }
        var old = (HttpURLConnection) URI.create(url + "/java").toURL().openConnection();
        old.setDoOutput(true);
        old.setChunkedStreamingMode(100);
        old.getOutputStream().write(new byte[10_000]);
        try (InputStream body = old.getInputStream()) {
            System.out.println(old.getResponseCode() + " " + new String(body.readAllBytes()));
        }
    }
}
