/**
 * vecsnap: snapshots of sharded vector indexes on object storage.
 *
 * A nightly job builds a snapshot and makes it live; applications open it, read-only, inside their own
 * process.
 *
 * ```ts
 * import { buildSnapshot, openSnapshot, openSource } from "vecsnap"
 *
 * const source = await openSource("words.parquet", { fields: { length: "int64" } })
 * await buildSnapshot(source, { to: "s3://vectors/words", sharding: { strategy: "cluster", shards: 16 } })
 *
 * await using reader = await openSnapshot("s3://vectors/words")
 * const { hits } = await reader.search(vector, { k: 10, probes: 4 })
 * ```
 *
 * The map of the package, from the top down; a folder knows those below it:
 *
 * - `release/`: {@link buildSnapshot}, from a source to a live snapshot: build, gates, publish;
 *   {@link evaluateSnapshot}, its recall.
 * - `writer/`: from a source to a stored snapshot: rows to shards, shards to snapshot.
 * - `reader/`: {@link openSnapshot}, searches, lookups, refresh, health.
 * - `maintenance/`: what is done to a root from time to time: {@link readHistory}, {@link rollback},
 *   {@link collect}, {@link pin}, {@link verifyRoot}, {@link repairPointer}, {@link diffSnapshots},
 *   {@link listRuns}, {@link diagnoseStore}.
 * - `manifest/`: our snapshot format: keys, manifest, pointer, publishing; and the list of formats.
 * - `snapshot/`: what a snapshot is for whoever reads it, and what a snapshot format must do.
 * - `recall/`: true neighbours, curves, the certificate: all that measures.
 * - `sources/`: {@link openSource}, input files to records, a file per format.
 * - `sharding/`: the strategies, pure; `shards/`: the index backends.
 * - `storage/`: the object store contract and its implementations; `vectors/`: distances, top-k, `.npy`,
 *   pure.
 * - `async/`: so many at a time, and no longer than wanted.
 * - `errors.ts`: what can go wrong, by what to do next; `records.ts`: what goes in and comes out.
 */
export {
  type ErrorDetails,
  type ErrorTag,
  isVecsnapError,
  VecsnapError,
} from "./errors.js"
export { parseJson, stringifyJson } from "./json.js"
export type { Logger } from "./logger.js"
export {
  type ChangedRows,
  type DiffOptions,
  diffSnapshots,
  type SnapshotDiff,
  type SnapshotFigures,
} from "./maintenance/diff/diff.js"
export type { ParameterChange } from "./maintenance/diff/parameters.js"
export type { CentroidShift } from "./maintenance/diff/routing.js"
export type { RowChange } from "./maintenance/diff/rows.js"
export type { Check, CheckName, Diagnosis, Verdict } from "./maintenance/doctor/diagnosis.js"
export { type DoctorOptions, diagnoseStore } from "./maintenance/doctor/doctor.js"
export { collect } from "./maintenance/gc/collect.js"
export type {
  CollectOptions,
  CollectProgress,
  CollectReport,
  RemovableKind,
  RemovedObjects,
} from "./maintenance/gc/report.js"
export {
  type History,
  type HistoryOptions,
  type HistoryPublication,
  type HistorySnapshot,
  readHistory,
} from "./maintenance/history.js"
export { type Pin, type PinOptions, pin, unpin } from "./maintenance/pins.js"
export { type RollbackOptions, rollback } from "./maintenance/rollback.js"
export type { RowPart } from "./maintenance/row-hashes.js"
export { listRuns, type RunInfo } from "./maintenance/runs.js"
export {
  type RejectedSnapshot,
  type RepairOptions,
  type RepairPlan,
  type RepairReport,
  repairPointer,
} from "./maintenance/verify/repair.js"
export type { Checked } from "./maintenance/verify/snapshot.js"
export {
  type DepthOptions,
  type Fault,
  type VerifiedSnapshot,
  type VerifyOptions,
  type VerifyReport,
  verifyRoot,
} from "./maintenance/verify/verify.js"
export {
  type LivePointer,
  type LiveSnapshot,
  readLive,
  readManifest,
  readPointer,
} from "./manifest/current.js"
export {
  emptyShards,
  type ShardFigures,
  shardBytes,
  shardFigures,
  shardRun,
  snapshotBytes,
} from "./manifest/figures.js"
export { findManifest, type HistoryEntry, listManifests } from "./manifest/history.js"
export type { Manifest, ShardEntry, SnapshotSchema } from "./manifest/manifest.js"
export type { Publication, PublicationAction } from "./manifest/pointer.js"
export type { Published } from "./manifest/publish.js"
export type { RunRecord, RunState } from "./manifest/run-record.js"
export type { SigningOptions } from "./manifest/signing.js"
export type { AuditOptions } from "./reader/audit/audit.js"
export { openSnapshot } from "./reader/reader.js"
export { createReaderPool, type ReaderPool, type ReaderPoolOptions } from "./reader/reader-pool.js"
export type { WarmOptions, WarmResult } from "./reader/shards/warm.js"
export type {
  AutoRefresh,
  CloseOptions,
  FoundRecord,
  GetOptions,
  Health,
  HealthOptions,
  Hit,
  ObservedRecall,
  OpenOptions,
  PayloadSchema,
  QueryVector,
  Reader,
  ReaderEvents,
  ReaderStats,
  RefreshReport,
  RefreshResult,
  RouteOptions,
  SearchOptions,
  SearchResult,
  SnapshotInfo,
} from "./reader/types.js"
export {
  type CertifiedQueries,
  certifiedRecall,
  type DefaultRecall,
  defaultProbes,
  type Estimate,
  type RecallCertificate,
  type RecallCurve,
  type TargetFigures,
} from "./recall/curves.js"
export type { QueryInput } from "./recall/queries.js"
export {
  FIELD_TYPES,
  type FieldSpec,
  type FieldType,
  type FieldValue,
  type Id,
  type IdType,
  type Json,
  type RecordBatch,
  type SnapshotIdType,
  type VectorRecord,
} from "./records.js"
export { buildSnapshot } from "./release/build-snapshot.js"
export {
  type ComparedRecall,
  type EvaluatedKind,
  type EvaluateOptions,
  type Evaluation,
  evaluateSnapshot,
} from "./release/eval/evaluate.js"
export {
  buildExported,
  type ExportOptions,
  type ExportReport,
  exportSnapshot,
} from "./release/exchange/export.js"
export { type ImportOptions, type ImportReport, importSnapshot } from "./release/exchange/import.js"
export {
  GATE_NAMES,
  type GateName,
  type GateOptions,
  type GateResult,
  type GateVerdict,
} from "./release/gates/options.js"
export type { BuildOptions, BuildReport } from "./release/options.js"
export { type PublishedRun, type PublishRunOptions, publishRun } from "./release/publish-run.js"
export type { CollectSummary, RetentionOptions } from "./release/retention.js"
export type { CelOptions } from "./sharding/cel/options.js"
export { type ClusterOptions, LAYOUTS, type LayoutName } from "./sharding/cluster/options.js"
export type { ExplicitOptions } from "./sharding/explicit.js"
export type { LshOptions } from "./sharding/lsh.js"
export { type ShardingOptions, STRATEGY_NAMES, type StrategyName } from "./sharding/registry.js"
export type { IsolationOptions } from "./shards/isolated/pool.js"
export { TRUSTS, type Trust, type TrustOptions } from "./shards/pools.js"
export { BACKEND_NAMES, type BackendName } from "./shards/registry.js"
export type { TrustedKeyOption } from "./snapshot/signatures/keys.js"
export { openSource, type SourceOptions } from "./sources/open.js"
export { type RecordsOptions, recordsSource } from "./sources/records.js"
export { SOURCE_FORMATS, type SourceFormat } from "./sources/registry.js"
export type { Source, SourceColumns } from "./sources/source.js"
export { openStore, type StoreOptions } from "./storage/open.js"
export type { Root, RootOptions } from "./storage/root.js"
export type { ObjectStore } from "./storage/store.js"
export { METRICS, type Metric } from "./vectors/metric.js"
export { decodeNpy, type NpyArray } from "./vectors/npy.js"
export { VECTOR_ENCODINGS, type VectorEncoding } from "./vectors/packed.js"
export { VERSION } from "./version.js"
export { type ChooseOptions, type ChosenSettings, chooseSettings } from "./writer/advice/choose.js"
export { type InputFacts, readInputFacts } from "./writer/advice/input-facts.js"
export { type PlanOptions, type PlanReason, planSnapshot, type SnapshotPlan } from "./writer/advice/plan.js"
export type { BuildInput } from "./writer/job.js"
export type { Progress, Stage } from "./writer/options.js"
