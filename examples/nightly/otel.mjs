// Sends the metrics and spans of a build to an OpenTelemetry collector:
//   npm install @opentelemetry/sdk-node
//   NODE_OPTIONS="--import ./otel.mjs" OTEL_SERVICE_NAME=words-build vecsnap build
// Where to is told by the variables that every SDK knows, such as OTEL_EXPORTER_OTLP_ENDPOINT.
import { NodeSDK } from "@opentelemetry/sdk-node"

const sdk = new NodeSDK()
sdk.start()

// A build is a short process: what is recorded leaves it before it ends.
process.once("beforeExit", () => sdk.shutdown())
