"""A turn of the loop every night, by Airflow: what drifted, what to label, a training if need be.

Put it into the folder of DAGs, with `xlmr` on the workers' PATH, and XLMR_FEEDBACK, XLMR_REGISTRY
and what else a server is started with in their environment. All workers must see PLACE: batches to
label are written there, and a training that was interrupted goes on there.
"""

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

NAME = os.environ.get("XLMR_LOOP_MODEL", "router")
PLACE = os.environ.get("XLMR_LOOP_PLACE", "/srv/xlmr")

with DAG(
    dag_id=f"xlmr_{NAME}",
    schedule="17 3 * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    # Two at a time do one anyway: the registry's journal and a lock in PLACE see to that.
    max_active_runs=1,
    default_args={"cwd": PLACE, "append_env": True},
    tags=["xlmr"],
) as dag:
    expire = BashOperator(task_id="expire", bash_command="xlmr feedback expire")
    report = BashOperator(
        task_id="report",
        bash_command=f"xlmr drift report {NAME} --json drift.json --html drift.html",
    )
    select = BashOperator(
        task_id="select",
        bash_command=(
            f"mkdir -p batches && xlmr select {NAME} batches --format label-studio"
            " --drift-report drift.json --count 200"
        ),
    )
    retrain = BashOperator(
        task_id="retrain",
        bash_command=(
            f"xlmr retrain {NAME} --run --drift-report drift.json --work retrain"
            " --recipe router.toml --test data --policy gate.toml --objective-ms 250"
        ),
        execution_timeout=timedelta(hours=12),
        # It ends well where there is nothing to do, and with 3 where the gate refuses. Tried again
        # it would find the order closed, and nobody would hear of the refusal.
        retries=0,
    )
    expire >> report >> [select, retrain]
