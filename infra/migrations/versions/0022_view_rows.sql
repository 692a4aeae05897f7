-- Counted with every publication, also before the tables of core are built anew: `views apply` describes it.
create table if not exists ops.view_rows (
    name text not null,
    delivery_id bigint not null,
    rows bigint not null,
    primary key (name, delivery_id)
);
