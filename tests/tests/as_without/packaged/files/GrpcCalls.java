import io.grpc.CallOptions;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/** A server and a client of gRPC for Java (Netty), without generated code: "serve PORT", or "SERVER PORT NAME". */
public class GrpcCalls {
    static final int LARGE = 2 << 20;
    static final Metadata.Key<String> TEXT = Metadata.Key.of("x-text", Metadata.ASCII_STRING_MARSHALLER);
    static final Metadata.Key<byte[]> BYTES = Metadata.Key.of("x-some-bin", Metadata.BINARY_BYTE_MARSHALLER);
    static final Context.Key<String> SEEN = Context.key("seen");

    static final MethodDescriptor.Marshaller<byte[]> PLAIN = new MethodDescriptor.Marshaller<>() {
        public InputStream stream(byte[] value) {
            return new ByteArrayInputStream(value);
        }

        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (java.io.IOException error) {
                throw new RuntimeException(error);
            }
        }
    };

    static MethodDescriptor<byte[], byte[]> method(MethodType type, String name) {
        return MethodDescriptor.<byte[], byte[]>newBuilder(PLAIN, PLAIN).setType(type)
            .setFullMethodName("test.Calls/" + name).build();
    }

    static final MethodDescriptor<byte[], byte[]> UNARY = method(MethodType.UNARY, "Unary");
    static final MethodDescriptor<byte[], byte[]> FAIL = method(MethodType.UNARY, "Fail");
    static final MethodDescriptor<byte[], byte[]> NONE = method(MethodType.UNARY, "None");
    static final MethodDescriptor<byte[], byte[]> COUNT = method(MethodType.SERVER_STREAMING, "Count");
    static final MethodDescriptor<byte[], byte[]> SILENT = method(MethodType.SERVER_STREAMING, "Silent");
    static final MethodDescriptor<byte[], byte[]> ECHO = method(MethodType.BIDI_STREAMING, "Echo");

    static void unary(byte[] request, StreamObserver<byte[]> answer) {
        answer.onNext((request.length + " " + SEEN.get()).getBytes());
        answer.onCompleted();
    }

    static void fail(byte[] request, StreamObserver<byte[]> answer) {
        Metadata trailers = new Metadata();
        trailers.put(TEXT, "so");
        answer.onError(Status.FAILED_PRECONDITION.withDescription("grüße: 100%").asRuntimeException(trailers));
    }

    static void count(byte[] request, StreamObserver<byte[]> answer) {
        var call = (ServerCallStreamObserver<byte[]>) answer;
        int[] next = {0};
        call.setOnCancelHandler(() -> { });
        call.setOnReadyHandler(() -> {
            int last = Integer.parseInt(new String(request));
            while (call.isReady() && next[0] < last) {
                call.onNext(("" + next[0]++).getBytes());
            }
            if (next[0] == last) {
                next[0]++;
                call.onCompleted();
            }
        });
    }

    /** Says when the call has ended, which its client does. */
    static void silent(byte[] request, StreamObserver<byte[]> answer) {
        long began = System.nanoTime();
        ((ServerCallStreamObserver<byte[]>) answer).setOnCancelHandler(() -> {
            boolean isSoon = System.nanoTime() - began < TimeUnit.SECONDS.toNanos(5);
            System.out.println(new String(request) + " ended, soon: " + isSoon);
        });
        answer.onNext("began".getBytes());
    }

    static StreamObserver<byte[]> echo(StreamObserver<byte[]> answers) {
        return new StreamObserver<>() {
            public void onNext(byte[] request) {
                answers.onNext(request);
            }

            public void onError(Throwable error) { }

            public void onCompleted() {
                answers.onCompleted();
            }
        };
    }

    static void serve(int port) throws Exception {
        var calls = ServerServiceDefinition.builder("test.Calls")
            .addMethod(UNARY, ServerCalls.asyncUnaryCall(GrpcCalls::unary))
            .addMethod(FAIL, ServerCalls.asyncUnaryCall(GrpcCalls::fail))
            .addMethod(COUNT, ServerCalls.asyncServerStreamingCall(GrpcCalls::count))
            .addMethod(SILENT, ServerCalls.asyncServerStreamingCall(GrpcCalls::silent))
            .addMethod(ECHO, ServerCalls.asyncBidiStreamingCall(GrpcCalls::echo)).build();
        ServerInterceptor seen = new ServerInterceptor() {
            public <A, B> ServerCall.Listener<A> interceptCall(
                    ServerCall<A, B> call, Metadata fields, ServerCallHandler<A, B> next) {
                var peer = (InetSocketAddress) call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR);
                byte[] bytes = fields.get(BYTES);
                String text = peer.getAddress().getHostAddress() + " " + fields.get(TEXT) + " "
                    + (bytes == null ? 0 : bytes.length);
                return Contexts.interceptCall(Context.current().withValue(SEEN, text), call, fields, next);
            }
        };
        // Connections are younger than the client's calls take together.
        NettyServerBuilder.forPort(port).addService(ServerInterceptors.intercept(calls, seen))
            .maxInboundMessageSize(2 * LARGE).maxConnectionAge(1, TimeUnit.SECONDS)
            .maxConnectionAgeGrace(10, TimeUnit.SECONDS).build().start().awaitTermination();
    }

    static String said(StatusRuntimeException error) {
        Metadata trailers = error.getTrailers();
        return error.getStatus().getCode() + " " + error.getStatus().getDescription() + " "
            + (trailers == null ? null : trailers.get(TEXT));
    }

    static byte[] ask(ManagedChannel channel, CallOptions options, byte[] request) {
        return ClientCalls.blockingUnaryCall(channel, UNARY, options.withDeadlineAfter(20, TimeUnit.SECONDS), request);
    }

    static void unaryCalls(ManagedChannel channel) {
        Metadata fields = new Metadata();
        fields.put(TEXT, "a  b");
        fields.put(BYTES, new byte[] {0, 1, -1});
        var withFields = ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(fields));
        for (int length : new int[] {0, 5, LARGE}) {
            for (String compression : new String[] {null, "gzip"}) {
                var options = CallOptions.DEFAULT.withCompression(compression).withDeadlineAfter(20, TimeUnit.SECONDS);
                byte[] answer = ClientCalls.blockingUnaryCall(withFields, UNARY, options, new byte[length]);
                System.out.println(new String(answer));
            }
        }
        for (var method : new MethodDescriptor[] {FAIL, NONE}) {
            try {
                ClientCalls.blockingUnaryCall(channel, method, CallOptions.DEFAULT, new byte[1]);
            } catch (StatusRuntimeException error) {
                System.out.println(said(error));
            }
        }
    }

    static void streams(ManagedChannel channel) throws Exception {
        var numbers = ClientCalls.blockingServerStreamingCall(channel, COUNT, CallOptions.DEFAULT, "5000".getBytes());
        String last = null;
        int count = 0;
        while (numbers.hasNext()) {
            last = new String(numbers.next());
            count++;
        }
        System.out.println(count + " " + last);
        BlockingQueue<Object> answers = new LinkedBlockingQueue<>();
        var requests = ClientCalls.asyncBidiStreamingCall(
            channel.newCall(ECHO, CallOptions.DEFAULT), new StreamObserver<byte[]>() {
                public void onNext(byte[] answer) {
                    answers.add(answer.length);
                }

                public void onError(Throwable error) {
                    answers.add(error);
                }

                public void onCompleted() {
                    answers.add("completed");
                }
            });
        // One message at a time: each answer comes before the next request is sent.
        var seen = new ArrayList<Object>();
        for (int number = 0; number < 100; number++) {
            requests.onNext(new byte[number * 997]);
            seen.add(answers.poll(20, TimeUnit.SECONDS));
        }
        requests.onCompleted();
        seen.add(answers.poll(20, TimeUnit.SECONDS));
        System.out.println(seen.hashCode() + " " + seen.get(99) + " " + seen.get(100));
    }

    static void callsThatEndEarly(ManagedChannel channel, String name) throws Exception {
        for (boolean hasDeadline : new boolean[] {false, true}) {
            var options = hasDeadline ? CallOptions.DEFAULT.withDeadlineAfter(1, TimeUnit.SECONDS) : CallOptions.DEFAULT;
            var context = Context.current().withCancellation();
            var said = new AtomicReference<String>();
            context.run(() -> {
                var answers = ClientCalls.blockingServerStreamingCall(channel, SILENT, options, name.getBytes());
                System.out.println(new String(answers.next()));
                if (!hasDeadline) {
                    context.cancel(null);
                }
                try {
                    answers.hasNext();
                } catch (StatusRuntimeException error) {
                    said.set(error.getStatus().getCode().toString());
                }
            });
            System.out.println(said);
        }
        for (int number = 0; number < 100; number++) {
            var context = Context.current().withCancellation();
            context.run(() -> {
                var options = CallOptions.DEFAULT;
                ClientCalls.blockingServerStreamingCall(channel, COUNT, options, "100000".getBytes()).next();
                context.cancel(null);
            });
        }
        System.out.println(new String(ask(channel, CallOptions.DEFAULT, new byte[3])));
    }

    /** Calls over the ends of several connections, whose server says that they are old (GOAWAY). */
    static void callsOnOldConnections(ManagedChannel channel) throws Exception {
        long began = System.nanoTime();
        var failures = new ArrayList<String>();
        while (System.nanoTime() - began < TimeUnit.MILLISECONDS.toNanos(2500)) {
            try {
                ask(channel, CallOptions.DEFAULT, new byte[10]);
            } catch (StatusRuntimeException error) {
                failures.add(said(error));
            }
        }
        System.out.println("failed: " + failures);
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("serve")) {
            serve(Integer.parseInt(arguments[1]));
            return;
        }
        var server = new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]));
        var channel = NettyChannelBuilder.forAddress(server).usePlaintext().maxInboundMessageSize(2 * LARGE).build();
        unaryCalls(channel);
        streams(channel);
        callsThatEndEarly(channel, arguments[2]);
        callsOnOldConnections(channel);
        channel.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
    }
}
