// Properties of the server and of its model.

import { askJson } from "./api.js";

// n_ctx and sequences are numbers; sampling has the default of each sampler by its name; documents: [{id, n_tokens}].
export const properties = {
  model: "", n_ctx: null, n_layer: 0, policy: "", kv_budget: null, sequences: null, sampling: {}, documents: [],
};

export const loadProperties = async () => {
  const [models, props] = await Promise.all([askJson("v1/models"), askJson("props")]);
  const { id = "", meta = {} } = models.data?.[0] ?? {};
  Object.assign(properties, {
    model: id, n_ctx: meta.n_ctx, n_layer: meta.n_layer ?? 0, policy: props.policy ?? "", kv_budget: props.kv_budget ?? null,
    sequences: props.total_slots, sampling: props.default_generation_settings?.params ?? {},
  });
};

export const loadDocuments = async () => {
  properties.documents = (await askJson("documents")).data.filter(({ error }) => error === undefined);
};
